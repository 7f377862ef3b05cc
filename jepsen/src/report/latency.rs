//! How long answers took, and how many there were a second.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::svg::{LEFT, Scale, WIDTH, class};
use crate::operation::Operation;
use crate::windows::FaultWindow;

const HEIGHT: f64 = 220.0;
const RATE_HEIGHT: f64 = 110.0;
/// The latencies at the foot and at the head of the picture, in nanoseconds.
const LEAST_NS: f64 = 1e5;
const MOST_NS: f64 = 3e10;

/// A point for each operation: when it was asked, and how long it took.
pub(super) fn latencies(operations: &[Operation], windows: &[FaultWindow], end_ns: u64) -> String {
    let scale = Scale::new(0, end_ns);
    let y = |ns: f64| {
        let part = (ns.clamp(LEAST_NS, MOST_NS) / LEAST_NS).ln() / (MOST_NS / LEAST_NS).ln();
        HEIGHT - 4.0 - part * (HEIGHT - 8.0)
    };
    let mut body = scale.shades(windows, HEIGHT);
    for (ns, label) in
        [(1e6, "1 ms"), (1e7, "10 ms"), (1e8, "100 ms"), (1e9, "1 s"), (1e10, "10 s")]
    {
        let at = y(ns);
        let _ = write!(
            body,
            "<line class='axis' x1='{LEFT}' x2='{WIDTH}' y1='{at:.1}' y2='{at:.1}'/><text \
             x='4' y='{:.1}'>{label}</text>",
            at + 4.0
        );
    }
    let mut drawn: BTreeSet<(u32, u32, &str)> = BTreeSet::new();
    for operation in operations {
        let class = class(operation);
        let took_ns = operation.left_ns.saturating_sub(operation.invoke_ns) as f64;
        let (x, y) = (scale.x(operation.invoke_ns), y(took_ns));
        // Two points of one colour at one place are one.
        if drawn.insert((x as u32, (y / 1.5) as u32, class)) {
            let _ = write!(body, r#"<circle class="{class}" cx="{x:.0}" cy="{y:.1}" r="1.6"/>"#);
        }
    }
    picture(&(body + &scale.axis(HEIGHT)), HEIGHT, "How long each answer took")
}

/// Operations that succeeded or were refused, a second.
pub(super) fn rates(operations: &[Operation], windows: &[FaultWindow], end_ns: u64) -> String {
    let scale = Scale::new(0, end_ns);
    let slot_ns = (end_ns / 300).max(250_000_000);
    let mut counts = vec![0_u32; usize::try_from(end_ns / slot_ns).unwrap_or(0) + 1];
    for at_ns in operations.iter().filter_map(|operation| operation.return_ns) {
        let slot = usize::try_from(at_ns / slot_ns).unwrap_or(usize::MAX);
        if let Some(count) = counts.get_mut(slot) {
            *count += 1;
        }
    }
    let rate = |count: u32| f64::from(count) * 1e9 / slot_ns as f64;
    let most = counts.iter().copied().max().map_or(1.0, rate).max(1.0);
    let mut points = String::new();
    for (count, slot) in counts.iter().zip(0_u64..) {
        let x = scale.x(slot * slot_ns + slot_ns / 2);
        let _ = write!(
            points,
            "{x:.1},{:.1} ",
            RATE_HEIGHT - rate(*count) / most * (RATE_HEIGHT - 12.0)
        );
    }
    let body = format!(
        "{}<text x='4' y='14'>{most:.0} /s</text><text x='4' \
         y='{RATE_HEIGHT}'>0</text><polyline class='rate' points='{points}'/>{}",
        scale.shades(windows, RATE_HEIGHT),
        scale.axis(RATE_HEIGHT)
    );
    picture(&body, RATE_HEIGHT, "Answers a second")
}

fn picture(body: &str, height: f64, label: &str) -> String {
    format!(
        "<div class='scroll'><svg viewBox='0 0 {WIDTH} {:.0}' role='img' \
         aria-label='{label}'>{body}</svg></div>",
        height + 20.0
    )
}
