//! What whoever waits can see: how far it is, how long it will take, and each figure as it comes.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::plan::System;
use crate::results::{CellKey, Figures};

/// The bar at the bottom, and lines above it.
#[derive(Debug, Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of work that will take so long.
    pub(crate) fn new(expected: Duration) -> Self {
        let bar =
            ProgressBar::with_draw_target(Some(expected.as_secs()), ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("[{bar:16}] {percent:>3} %, {eta} left: {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// What is being done.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        let what = what.into();
        if self.0.is_hidden() {
            return;
        }
        self.0.set_message(what);
    }

    /// So many of its seconds are over.
    pub(crate) fn advance(&self, planned: Duration) {
        self.0.inc(planned.as_secs());
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let line = line.as_ref();
        self.0.suspend(|| println!("{line}"));
    }

    /// The line of one measurement.
    pub(crate) fn say_cell(&self, round: usize, key: &CellKey, figures: &Figures) {
        let CellKey { system, variant, placement, workload, clients } = key;
        let how = match system {
            System::Leasehold | System::Postgres => system.to_string(),
            System::Etcd | System::EtcdAuth => format!("{system} {variant}"),
        };
        let times = figures.times;
        self.say(format!(
            "{round} {workload:<14} {clients:>4} {placement:<8} {how:<19} {:>7.0}/s {:>6} {:>6}",
            figures.per_second,
            short(times.p50_ms),
            short(times.p99_ms),
        ));
        if let Some(error) = &figures.first_error {
            self.say(format!("  {} failed; the first: {error}", figures.errors));
        }
    }

    /// The heading of those lines.
    pub(crate) fn say_heading(&self) {
        self.say(format!(
            "r {:<14} {:>4} {:<8} {:<19} {:>9} {:>6} {:>6}",
            "workload", "cl.", "clients", "system", "rate", "p50 ms", "p99 ms"
        ));
    }

    /// It is over.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// A number in at most six places: more digits where there is less before the point.
pub(crate) fn short(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".to_owned()
    } else if size < 0.1 {
        format!("{number:.3}")
    } else if size < 10.0 {
        format!("{number:.2}")
    } else if size < 100.0 {
        format!("{number:.1}")
    } else {
        let whole = format!("{number:.0}");
        let digits = whole.trim_start_matches('-').len();
        let mut grouped = String::new();
        for (at, letter) in whole.chars().enumerate() {
            let left = whole.len() - at;
            let is_first = grouped.is_empty() || grouped == "-";
            if left.is_multiple_of(3) && !is_first && digits > 3 {
                grouped.push(',');
            }
            grouped.push(letter);
        }
        grouped
    }
}

const TICK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_are_telling() {
        for (number, want) in [
            (0.0, "0"),
            (0.051, "0.051"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.0, "1,234"),
            (25_162.4, "25,162"),
            (1_000_000.0, "1,000,000"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(short(number), want);
        }
    }
}
