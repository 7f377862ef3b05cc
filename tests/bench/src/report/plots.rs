//! The plots: checkouts by number of clients, one line for each system.
//!
//! Both axes are logarithmic: what is compared differs by factors. A peer is drawn by its better
//! way at each number of clients.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::plan::{System, Workload};
use crate::progress::short;
use crate::results::{Figures, Results};

/// One plot.
pub(crate) struct Plot {
    /// Its file, beside the page.
    pub(crate) file: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    of: fn(&Figures) -> f64,
    is_better_higher: bool,
    /// In a band of its own, below or above all lines.
    legend: SeriesLabelPosition,
}

/// All of them.
pub(crate) const PLOTS: &[Plot] = &[
    Plot {
        file: "throughput.svg",
        title: "Checkouts per second",
        of: |figures| figures.per_second,
        is_better_higher: true,
        legend: SeriesLabelPosition::LowerRight,
    },
    Plot {
        file: "p99.svg",
        title: "p99 of a checkout, ms",
        of: |figures| figures.times.p99_ms,
        is_better_higher: false,
        legend: SeriesLabelPosition::UpperLeft,
    },
    Plot {
        file: "cpu.svg",
        title: "Server CPU-seconds per 1,000 checkouts",
        of: |figures| figures.server_cpu_s_per_1000,
        is_better_higher: false,
        legend: SeriesLabelPosition::UpperRight,
    },
];

impl Plot {
    /// The picture.
    pub(crate) fn draw(&self, results: &Results) -> Result<String> {
        let mut picture = String::new();
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        self.draw_on(&root, results).map_err(|error| anyhow!("cannot draw: {error}"))?;
        drop(root);
        Ok(picture + "\n")
    }

    fn draw_on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, plotters::coord::Shift>,
        results: &Results,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        root.fill(&WHITE)?;
        let lines: Vec<(System, Vec<(f64, f64)>)> =
            System::ALL.into_iter().map(|system| (system, self.line(results, system))).collect();
        let points = || lines.iter().flat_map(|(_, line)| line);
        let clients = Axis::at(points().map(|point| point.0).collect());
        let mut figures = points().map(|point| point.1).collect::<Vec<_>>();
        figures.extend(self.edge_of_legend(&figures));
        let figures = Axis::over(&figures);
        let mut chart = ChartBuilder::on(root)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(clients, figures)?;
        chart
            .configure_mesh()
            .x_desc("clients")
            .x_label_formatter(&|mark: &f64| mark_text(*mark))
            .y_label_formatter(&|mark: &f64| mark_text(*mark))
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 13))
            .draw()?;
        for (system, line) in lines.into_iter().filter(|(_, line)| !line.is_empty()) {
            let colour = colour(system);
            let style = ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: 2 };
            chart
                .draw_series(LineSeries::new(line, style).point_size(4))?
                .label(label(system))
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .background_style(WHITE.mix(0.85))
            .label_font((FONT, 13))
            .draw()?;
        root.present()
    }

    /// How far the axis goes beyond the figures, so that the legend lies on none of them.
    fn edge_of_legend(&self, figures: &[f64]) -> Option<f64> {
        let least = figures.iter().copied().reduce(f64::min)?;
        let most = figures.iter().copied().reduce(f64::max)?;
        let band = (most / least).powf(LEGEND_HEIGHT / (1.0 - LEGEND_HEIGHT));
        Some(match self.legend {
            SeriesLabelPosition::LowerRight => least / band,
            _ => most * band,
        })
    }

    /// The better way of a system at each number of clients.
    fn line(&self, results: &Results, system: System) -> Vec<(f64, f64)> {
        let mut line: Vec<(f64, f64)> = Vec::new();
        for cell in &results.cells {
            if (cell.key.system, cell.key.workload) != (system, Workload::Checkout) {
                continue;
            }
            let (clients, figure) = (cell.key.clients as f64, (self.of)(&cell.median));
            if figure <= 0.0 {
                continue;
            }
            match line.iter_mut().find(|point| point.0.total_cmp(&clients).is_eq()) {
                None => line.push((clients, figure)),
                Some(point) if self.is_better_higher => point.1 = point.1.max(figure),
                Some(point) => point.1 = point.1.min(figure),
            }
        }
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
        line
    }
}

/// A logarithmic axis with marks of our choice.
struct Axis {
    range: Range<f64>,
    marks: Vec<f64>,
}

impl Axis {
    /// Marks where something was measured, and nowhere else.
    fn at(mut marks: Vec<f64>) -> Self {
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        let (first, last) = (marks.first().unwrap_or(&1.0), marks.last().unwrap_or(&10.0));
        Self { range: first / 1.3..last * 1.3, marks }
    }

    /// Marks at 1, 2 and 5 of each power of ten.
    fn over(figures: &[f64]) -> Self {
        let lowest = figures.iter().copied().reduce(f64::min).unwrap_or(1.0) * 0.7;
        let highest = figures.iter().copied().reduce(f64::max).unwrap_or(10.0) * 1.4;
        let powers = lowest.log10().floor() as i32..=highest.log10().ceil() as i32;
        let marks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|one| one * 10_f64.powi(power)));
        let marks = marks.filter(|mark| (lowest..highest).contains(mark)).collect();
        Self { range: lowest..highest, marks }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let Range { start, end } = self.range;
        let share = (value / start).ln() / (end / start).ln();
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        mark_text(*value)
    }
}

fn mark_text(mark: f64) -> String {
    if mark >= 1_000.0 { short(mark) } else { format!("{}", (mark * 1e6).round() / 1e6) }
}

fn label(system: System) -> &'static str {
    match system {
        System::Leasehold => "leasehold (TLS, tokens, audit)",
        System::Etcd => "etcd",
        System::EtcdAuth => "etcd (TLS, authentication)",
        System::Postgres => "PostgreSQL, one node",
    }
}

/// Told apart also by those who do not tell red from green (Okabe, Ito 2008).
fn colour(system: System) -> RGBColor {
    match system {
        System::Leasehold => RGBColor(0, 114, 178),
        System::Etcd => RGBColor(213, 94, 0),
        System::EtcdAuth => RGBColor(230, 159, 0),
        System::Postgres => RGBColor(0, 158, 115),
    }
}

const SIZE: (u32, u32) = (640, 400);
/// Of the legend, as a part of the axis with it.
const LEGEND_HEIGHT: f64 = 0.3;
const FONT: &str = "sans-serif";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{made_up, results_of};

    #[test]
    fn axes_are_marked_where_it_helps() {
        let marks = |axis: Axis| axis.marks.into_iter().map(mark_text).collect::<Vec<_>>();
        assert_eq!(marks(Axis::at(vec![64.0, 1.0, 64.0])), ["1", "64"]);
        assert_eq!(marks(Axis::over(&[0.2, 3.0])), ["0.2", "0.5", "1", "2"]);
        assert_eq!(marks(Axis::over(&[900.0, 3_000.0])), ["1,000", "2,000"]);
        assert_eq!(marks(Axis::over(&[])), ["1", "2", "5", "10"]);
    }

    #[test]
    fn a_peer_is_drawn_by_its_better_way() {
        let (key, http) = made_up(System::Etcd, Workload::Checkout, 64, 1_000.0);
        let grpc = Figures { per_second: 2_000.0, ..http.clone() };
        let other = crate::results::CellKey { variant: crate::plan::Variant::Grpc, ..key };
        let results = results_of(&[(key, http), (other, grpc)]);
        assert_eq!(PLOTS[0].line(&results, System::Etcd), [(64.0, 2_000.0)]);
    }
}
