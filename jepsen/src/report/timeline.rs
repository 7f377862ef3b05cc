//! The timeline: a lane for each client, what it did in colours, faults above and behind.
//!
//! A process that ends with an unknown outcome is followed by another in the same lane, so there
//! are as many lanes as clients at one time. In the picture of the whole run, what is too near to
//! be told apart is one mark, in the colour of the worst of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::svg::{LEFT, Scale, WIDTH, class, escape, title};
use crate::check::told::{short, told};
use crate::operation::Operation;
use crate::windows::FaultWindow;

const LANE: f64 = 14.0;
const MARK: f64 = 10.0;
/// Moments of the whole run that can be told apart.
const SLOTS: u64 = 2_200;

/// The whole run.
pub(super) fn whole(operations: &[Operation], windows: &[FaultWindow], end_ns: u64) -> String {
    let scale = Scale::new(0, end_ns);
    let (faults, top) = fault_lanes(&scale, windows);
    let lanes = lanes(operations);
    let count = lanes.iter().max().map_or(0, |most| most + 1);
    let height = top + count as f64 * LANE + 4.0;
    let mut marks: BTreeMap<(usize, u64), (u64, &'static str, u32)> = BTreeMap::new();
    let slot = |ns: u64| ns.saturating_mul(SLOTS) / end_ns.max(1);
    for (operation, lane) in operations.iter().zip(&lanes) {
        let (from, to) = (slot(operation.invoke_ns), slot(operation.left_ns));
        let mark = marks.entry((*lane, from)).or_insert((to, class(operation), 0));
        mark.0 = mark.0.max(to);
        mark.1 = worse(mark.1, class(operation));
        mark.2 += 1;
    }
    let mut body = scale.shades(windows, height) + &faults;
    for ((lane, from), (to, class, count)) in marks {
        let ns = |slot: u64| slot * end_ns / SLOTS;
        let (from, to) = (scale.x(ns(from)), scale.x(ns(to)));
        let y = top + lane as f64 * LANE;
        let _ = write!(
            body,
            "<rect class='{class}' x='{from:.1}' y='{y:.0}' width='{:.1}' \
             height='{MARK}'><title>{count} operations</title></rect>",
            (to - from).max(0.7)
        );
    }
    for lane in 0..count {
        let y = top + lane as f64 * LANE + 9.0;
        let _ = write!(body, r#"<text x="4" y="{y:.0}">client {lane}</text>"#);
    }
    picture(&(body + &scale.axis(height)), height, "What each client did over time")
}

/// Some operations, each in a row of its own with its words.
pub(super) fn part(operations: &[&Operation], windows: &[FaultWindow]) -> String {
    let from_ns = operations.iter().map(|it| it.invoke_ns).min().unwrap_or(0);
    let ends = operations.iter().map(|it| it.return_ns.unwrap_or(it.invoke_ns));
    let to_ns = ends.max().unwrap_or(0);
    let margin_ns = (to_ns - from_ns) / 20 + 1;
    let scale = Scale::new(from_ns.saturating_sub(margin_ns), to_ns + margin_ns);
    let height = operations.len() as f64 * LANE * 1.3 + 4.0;
    let mut body = scale.shades(windows, height);
    for (operation, row) in operations.iter().zip(0_u32..) {
        let y = f64::from(row) * LANE * 1.3 + 2.0;
        let to_ns = operation.return_ns.unwrap_or(u64::MAX);
        let (from, to) = (scale.x(operation.invoke_ns), scale.x(to_ns));
        let named = operation.act.lease().or_else(|| operation.act.key()).unwrap_or_default();
        let words = format!("{} {}", operation.act.name(), short(named));
        let is_long = to - from > 300.0;
        let (at, anchor) = match (is_long, from > WIDTH / 2.0) {
            (true, _) => (from + 4.0, ""),
            (false, true) => (from - 4.0, r#" text-anchor="end""#),
            (false, false) => (to + 4.0, ""),
        };
        let _ = write!(
            body,
            "<rect class='{}{}' x='{from:.1}' y='{y:.1}' width='{:.1}' \
             height='{MARK}'><title>{}</title></rect><text x='4' y='{:.1}'>p{}</text><text \
             x='{at:.1}' y='{:.1}'{anchor}>{}</text>",
            class(operation),
            if is_long { " long" } else { "" },
            (to - from).max(2.0),
            escape(&told(operation)),
            y + 9.0,
            operation.process,
            y + 9.0,
            escape(&words),
        );
    }
    picture(&(body + &scale.axis(height)), height, "The smallest part that fails")
}

fn picture(body: &str, height: f64, label: &str) -> String {
    format!(
        "<div class='scroll'><svg viewBox='0 0 {WIDTH} {:.0}' role='img' \
         aria-label='{label}'>{body}</svg></div>",
        height + 20.0
    )
}

/// A row for each name of a fault, with its windows; and where the rows end.
fn fault_lanes(scale: &Scale, windows: &[FaultWindow]) -> (String, f64) {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for window in windows {
        let next = rows.len();
        rows.entry(&window.name).or_insert(next);
    }
    let mut text = String::new();
    for (name, row) in &rows {
        let y = *row as f64 * LANE + 10.0;
        let _ = write!(text, r#"<text x="4" y="{y:.0}">{}</text>"#, escape(name));
    }
    for window in windows {
        let y = rows.get(window.name.as_str()).map_or(0.0, |row| *row as f64 * LANE + 2.0);
        let (from, to) = (scale.x(window.start_ns), scale.x(window.end_ns.unwrap_or(u64::MAX)));
        let _ = write!(
            text,
            "<rect class='{}' x='{from:.1}' y='{y:.0}' width='{:.1}' \
             height='{MARK}'><title>{}</title></rect>",
            if window.hits > 0 { "fault" } else { "fail" },
            (to - from).max(2.0),
            escape(&title(window))
        );
    }
    let y = rows.len() as f64 * LANE + 4.0;
    if !rows.is_empty() {
        let _ = write!(text, r#"<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>"#);
    }
    (text, y + 4.0)
}

/// The lane of each operation: that of its process, and a process that is new takes the lane that
/// has been free longest among those whose process is gone.
fn lanes(operations: &[Operation]) -> Vec<usize> {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in operations {
        let left = last.entry(operation.process).or_default();
        *left = operation.left_ns.max(*left);
    }
    let mut of: BTreeMap<u64, usize> = BTreeMap::new();
    let mut free_at: Vec<u64> = Vec::new();
    let mut places = Vec::with_capacity(operations.len());
    for operation in operations {
        let lane = *of.entry(operation.process).or_insert_with(|| {
            let free = free_at.iter().position(|at| *at <= operation.invoke_ns);
            free.unwrap_or(free_at.len())
        });
        if lane == free_at.len() {
            free_at.push(0);
        }
        free_at[lane] = last.get(&operation.process).copied().unwrap_or(u64::MAX);
        places.push(lane);
    }
    places
}

fn worse(one: &'static str, other: &'static str) -> &'static str {
    let rank = |class| ["ok", "refused", "fail", "info"].iter().position(|it| *it == class);
    if rank(one) >= rank(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Act;
    use crate::operation::Outcome;

    #[test]
    fn a_process_that_is_gone_is_followed_in_its_lane() {
        let operation = |process, invoke_ns, left_ns| Operation {
            process,
            node: None,
            act: Act::ReadPackage { package: "P".to_owned(), stale: false },
            invoke: 0,
            invoke_ns,
            end: None,
            return_ns: None,
            left_ns,
            outcome: Outcome::Unknown,
        };
        let operations = [
            operation(1, 0, 5),
            operation(2, 1, 9),
            operation(1, 6, 8),
            operation(3, 8, 12),
            operation(4, 8, 12),
            operation(5, 12, 13),
        ];
        assert_eq!(lanes(&operations), [0, 1, 0, 0, 2, 0]);
    }
}
