//! What the drawings of a report share: a scale of time, faults as shades, text that is safe.

use std::fmt::Write;

use crate::operation::{Operation, Outcome};
use crate::windows::FaultWindow;

/// Width of a drawing in its own units.
pub(super) const WIDTH: f64 = 1200.0;
/// Room for labels on the left.
pub(super) const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;

/// Where moments of a run are in a drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from_ns: u64,
    to_ns: u64,
}

impl Scale {
    /// The moments from one to another fill the drawing.
    pub(super) fn new(from_ns: u64, to_ns: u64) -> Self {
        Self { from_ns, to_ns: to_ns.max(from_ns + 1) }
    }

    /// The place of a moment, from left to right.
    pub(super) fn x(&self, ns: u64) -> f64 {
        let part = (ns.clamp(self.from_ns, self.to_ns) - self.from_ns) as f64
            / (self.to_ns - self.from_ns) as f64;
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    /// Lines and numbers of a time axis below a drawing of this height.
    pub(super) fn axis(&self, height: f64) -> String {
        let span_s = (self.to_ns - self.from_ns) as f64 / 1e9;
        let step_s = round_step(span_s / 10.0);
        let digits = if step_s < 0.1 { 3 } else { usize::from(step_s < 1.0) };
        let mut at_s = (self.from_ns as f64 / 1e9 / step_s).ceil() * step_s;
        let mut text = String::new();
        while at_s * 1e9 <= self.to_ns as f64 {
            let x = self.x((at_s * 1e9) as u64);
            let _ = write!(
                text,
                "<line class='axis' x1='{x:.1}' x2='{x:.1}' y1='0' y2='{height:.0}'/><text \
                 x='{x:.1}' y='{:.0}' text-anchor='middle'>{at_s:.digits$} s</text>",
                height + 14.0
            );
            at_s += step_s;
        }
        text
    }

    /// Faults as shades behind a drawing of this height.
    pub(super) fn shades(&self, windows: &[FaultWindow], height: f64) -> String {
        let mut text = String::new();
        for window in windows {
            let (from, to) = (self.x(window.start_ns), self.x(window.end_ns.unwrap_or(u64::MAX)));
            let _ = write!(
                text,
                "<rect class='shade' x='{from:.1}' y='0' width='{:.1}' \
                 height='{height:.0}'><title>{}</title></rect>",
                (to - from).max(1.0),
                escape(&title(window))
            );
        }
        text
    }
}

/// A fault in one line.
pub(super) fn title(window: &FaultWindow) -> String {
    let seconds = |ns: u64| format!("{:.3} s", ns as f64 / 1e9);
    let end = window.end_ns.map_or_else(|| "the end".to_owned(), seconds);
    format!(
        "{} of {:?}, {} to {end}, {} hits. {}",
        window.name,
        window.targets,
        seconds(window.start_ns),
        window.hits,
        window.detail
    )
}

/// The class of an operation's colour.
pub(super) fn class(operation: &Operation) -> &'static str {
    match operation.outcome {
        Outcome::Done(_) => "ok",
        Outcome::Refused { .. } => "refused",
        Outcome::Failed => "fail",
        Outcome::Unknown => "info",
    }
}

/// What the colours mean.
pub(super) const LEGEND: &str = "<p class='legend'><span><i \
 class='ok'></i>ok</span><span><i class='refused'></i>refused</span><span><i \
 class='fail'></i>certainly not done</span><span><i class='info'></i>outcome \
 unknown</span><span><i class='shade'></i>fault</span></p>";

/// Text that is safe inside HTML.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            character => safe.push(character),
        }
    }
    safe
}

/// The next of 1, 2, 5, 10, … of any power that is not below.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|it| *it >= least).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_fill_the_drawing_and_text_is_safe() {
        let scale = Scale::new(10, 20);
        assert_eq!([scale.x(0), scale.x(10)], [LEFT, LEFT]);
        assert_eq!([scale.x(20), scale.x(u64::MAX)], [WIDTH - RIGHT, WIDTH - RIGHT]);
        assert_eq!([0.9, 1.0, 3.0, 70.0].map(round_step), [1.0, 1.0, 5.0, 100.0]);
        assert_eq!(escape("<a href=\"'&"), "&lt;a href=&quot;&#39;&amp;");
    }
}
