//! A picture as a frame of 80 columns and up. Every text that came from a server is escaped.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget};

use super::gather::{NodeLine, PackageLine, Picture};
use crate::report::escaped;

/// What the person at the keyboard chose.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The package at the top of the list.
    pub(super) first_package: usize,
    /// Whether the keys are explained.
    pub(super) help: bool,
    /// Why the picture is not of now.
    pub(super) trouble: Option<String>,
}

/// Draws a picture on a terminal.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, view: &mut View) {
    let area = frame.area();
    render(picture, view, area, frame.buffer_mut());
}

/// A picture as text, so many columns wide and as high as it needs to be.
pub(super) fn text(picture: &Picture, columns: u16) -> String {
    let lists = picture.refusals.len().max(picture.calls.len()).clamp(1, LISTED);
    let lines = 2 + 2 + picture.nodes.len() + 2 + picture.packages.len().max(1) + 2 + lists + 1;
    let area = Rect::new(0, 0, columns, u16::try_from(lines).unwrap_or(u16::MAX));
    let mut buffer = Buffer::empty(area);
    render(picture, &mut View::default(), area, &mut buffer);
    let rows = buffer.content().chunks(usize::from(columns));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>())
        .map(|row| format!("{}\n", row.trim_end()))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn render(picture: &Picture, view: &mut View, area: Rect, buffer: &mut Buffer) {
    let lists = picture.refusals.len().max(picture.calls.len()).clamp(1, LISTED);
    let [head, nodes, packages, lists, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(rows(picture.nodes.len()) + 2),
        Constraint::Min(3),
        Constraint::Length(rows(lists) + 2),
        Constraint::Length(1),
    ])
    .areas(area);
    head_of(picture, view).render(head, buffer);
    nodes_of(picture).render(nodes, buffer);
    let room = usize::from(packages.height.saturating_sub(2));
    let last = picture.packages.len().saturating_sub(room);
    view.first_package = view.first_package.min(last);
    packages_of(picture, view.first_package, packages.width).render(packages, buffer);
    let [left, right] =
        Layout::horizontal([Constraint::Length(REFUSAL_COLUMNS), Constraint::Min(30)]).areas(lists);
    refusals_of(picture).render(left, buffer);
    calls_of(picture).render(right, buffer);
    Paragraph::new(Line::styled("q quit  up/down packages  ? keys", DIM)).render(foot, buffer);
    if view.help {
        help(area, buffer);
    }
}

fn head_of(picture: &Picture, view: &View) -> Paragraph<'static> {
    let up = picture.nodes.iter().filter(|node| node.role != "unreachable").count();
    let (health, style) = match picture.leader {
        None => ("no leader".to_owned(), BAD),
        Some(id) if up < picture.nodes.len() => (format!("node {id} leads"), WARN),
        Some(id) => (format!("node {id} leads"), GOOD),
    };
    let rate =
        picture.requests_per_second.map_or(String::new(), |rate| format!("  {rate:.0} requests/s"));
    let first = Line::from(vec![
        Span::styled("leasehold top  ", BOLD),
        Span::raw(format!("{}  ", escaped(&picture.cluster_id))),
        Span::styled(health, style),
        Span::raw(format!("  {up} of {} up{rate}", picture.nodes.len())),
    ]);
    let second = match &view.trouble {
        Some(trouble) => Line::styled(format!("not of now: {}", escaped(trouble)), BAD),
        None => Line::default(),
    };
    Paragraph::new(vec![first, second])
}

fn nodes_of(picture: &Picture) -> Paragraph<'static> {
    let mut lines = vec![Line::styled(
        format!(
            "{:>4}  {:<11} {:<14} {:>12} {:>7}  ALARMS",
            "NODE", "ROLE", "PLACE", "APPLIED", "LAG"
        ),
        DIM,
    )];
    lines.extend(picture.nodes.iter().map(node_line));
    Paragraph::new(lines)
}

fn node_line(node: &NodeLine) -> Line<'static> {
    let style = match node.role.as_str() {
        "leader" => GOOD,
        "unreachable" => BAD,
        _ => Style::new(),
    };
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let place = if node.place.is_empty() { "-".to_owned() } else { cut(&node.place, 14) };
    let alarms: Vec<String> = node.alarms.iter().map(|alarm| escaped(alarm)).collect();
    Line::from(vec![
        Span::raw(format!("{:>4}  ", node.id)),
        Span::styled(format!("{:<11} ", cut(&node.role, 11)), style),
        Span::raw(format!("{place:<14} {:>12} {:>7}  ", number(node.applied), number(node.lag))),
        Span::styled(alarms.join(" "), BAD),
    ])
}

fn packages_of(picture: &Picture, first: usize, width: u16) -> Paragraph<'static> {
    let name = NAME_COLUMNS;
    let bar = usize::from(width).saturating_sub(name + 16).clamp(10, 60);
    let mut lines =
        vec![Line::styled(format!("{:<name$} {:<bar$} {:>13}", "PACKAGE", "SEATS", "OUT"), DIM)];
    if picture.packages.is_empty() {
        lines.push(Line::raw("no packages"));
    }
    let shown = picture.packages.iter().skip(first);
    lines.extend(shown.map(|package| package_line(package, name, bar)));
    Paragraph::new(lines)
}

/// Commit seats out, overage seats out, and what is free.
fn package_line(package: &PackageLine, name: usize, bar: usize) -> Line<'static> {
    let out = package.commit_in_use.saturating_add(package.overage_in_use);
    let cells = |seats: u32| match (seats, package.total) {
        (0, _) | (_, 0) => 0,
        // Anything out is seen.
        (seats, total) => (bar * seats as usize / total as usize).clamp(1, bar),
    };
    let commit = cells(package.commit_in_use);
    let overage = cells(package.overage_in_use).min(bar - commit);
    let is_full = out >= package.total;
    let (label, style) = match package.state.as_str() {
        "active" if is_full => (format!("{out}/{} full", package.total), WARN),
        "active" => (format!("{out}/{}", package.total), Style::new()),
        state => (cut(state, 13), BAD),
    };
    Line::from(vec![
        Span::raw(format!("{:<name$} ", cut(&package.package_id, name))),
        Span::styled("█".repeat(commit), GOOD),
        Span::styled("▓".repeat(overage), WARN),
        Span::styled("░".repeat(bar - commit - overage), DIM),
        Span::styled(format!(" {label:>13}"), style),
    ])
}

fn refusals_of(picture: &Picture) -> Paragraph<'static> {
    let mut lines = vec![Line::styled(format!("{:<24} {:>7} {:>5}", "REFUSED", "ALL", "NEW"), DIM)];
    if picture.refusals.is_empty() {
        lines.push(Line::raw("nothing"));
    }
    lines.extend(picture.refusals.iter().take(LISTED).map(|line| {
        let style = if line.new > 0 { WARN } else { Style::new() };
        let text = format!("{:<24} {:>7} {:>5}", cut(&line.reason, 24), line.count, line.new);
        Line::styled(text, style)
    }));
    Paragraph::new(lines)
}

fn calls_of(picture: &Picture) -> Paragraph<'static> {
    let mut lines = vec![Line::styled(
        format!("{:<20} {:>5} {:>6} {:>6}", "SLOWEST CALLS", "N", "MEAN", "P99 ms"),
        DIM,
    )];
    if picture.calls.is_empty() {
        lines.push(Line::raw("none"));
    }
    lines.extend(picture.calls.iter().take(LISTED).map(|line| {
        let p99 = line.p99_ms.map_or("more".to_owned(), |ms| format!("{ms:.0}"));
        let (name, mean) = (cut(&line.operation, 20), line.mean_ms);
        Line::raw(format!("{name:<20} {:>5} {mean:>6.1} {p99:>6}", line.count))
    }));
    Paragraph::new(lines)
}

fn help(area: Rect, buffer: &mut Buffer) {
    let (width, height) = (area.width.min(52), area.height.min(11));
    let inside = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    Clear.render(inside, buffer);
    let lines = [
        "q, Esc       quit",
        "up, down     move through the packages",
        "Home         back to the first",
        "?            this",
        "",
        "█ commit seats out   ▓ overage   ░ free",
        "NEW: since the last asking",
        "P99: of the last interval, as exact as the",
        "     histogram's buckets",
    ];
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    Paragraph::new(lines).block(Block::bordered().title(" keys ")).render(inside, buffer);
}

/// A text of a server, escaped and no longer than that.
fn cut(text: &str, columns: usize) -> String {
    let text = escaped(text);
    if text.chars().count() <= columns {
        return text;
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn rows(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX / 4)
}

/// Reasons and calls shown.
const LISTED: usize = 6;
const NAME_COLUMNS: usize = 30;
const REFUSAL_COLUMNS: u16 = 40;
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const GOOD: Style = Style::new().fg(Color::Green);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red);

#[cfg(test)]
mod tests {
    use super::super::gather::{CallLine, RefusalLine};
    use super::*;

    fn picture() -> Picture {
        let node = |id, role: &str, applied| NodeLine {
            id,
            role: role.to_owned(),
            place: "eu-1/a".to_owned(),
            gateway: String::new(),
            applied,
            lag: applied.map(|_| 0),
            alarms: if id == 3 { vec!["LAG".to_owned()] } else { Vec::new() },
        };
        let package = |name: &str, commit, overage| PackageLine {
            package_id: name.to_owned(),
            state: "active".to_owned(),
            total: 20,
            commit_in_use: commit,
            overage_in_use: overage,
        };
        Picture {
            cluster_id: "lh-3f2a9c5d7e11a0b2".to_owned(),
            leader: Some(2),
            nodes: vec![
                node(1, "follower", Some(1_204)),
                node(2, "leader", Some(1_204)),
                node(3, "unreachable", None),
            ],
            packages: vec![
                package("vec-davinci-se-bmw-2025-001", 15, 5),
                package("a-package-with-a-name-that-is-too-long", 1, 0),
            ],
            refusals: vec![RefusalLine {
                reason: "max_overage_exceeded".to_owned(),
                count: 41,
                new: 3,
            }],
            calls: vec![CallLine {
                operation: "checkoutLicense".to_owned(),
                count: 120,
                mean_ms: 2.25,
                p99_ms: Some(10.0),
            }],
            requests_per_second: Some(123.4),
            silent: 1,
        }
    }

    #[test]
    fn a_picture_fits_eighty_columns_and_says_what_is_wrong() {
        let text = text(&picture(), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for has in [
            "node 2 leads  2 of 3 up  123 requests/s",
            "   3  unreachable eu-1/a                    -       -  LAG",
            "20/20 full",
            "a-package-with-a-name-that-is…",
            "max_overage_exceeded          41     3",
            "checkoutLicense        120    2.2     10",
        ] {
            assert!(text.contains(has), "no `{has}` in\n{text}");
        }
        let full = text.lines().find(|line| line.starts_with("vec-")).unwrap();
        assert_eq!((full.matches('█').count(), full.matches('▓').count()), (25, 8), "{full}");
    }

    #[test]
    fn a_small_terminal_shows_the_packages_one_looks_for() {
        let mut picture = picture();
        picture.packages = (0..50)
            .map(|number| PackageLine {
                package_id: format!("package-{number:02}"),
                ..picture.packages[0].clone()
            })
            .collect();
        let area = Rect::new(0, 0, 80, 24);
        let shown = |first_package| {
            let mut view = View { first_package, ..View::default() };
            let mut buffer = Buffer::empty(area);
            render(&picture, &mut view, area, &mut buffer);
            let text: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
            (text, view.first_package)
        };
        assert!(shown(0).0.contains("package-00") && !shown(0).0.contains("package-49"));
        let (text, first) = shown(1_000);
        assert!(text.contains("package-49") && first < 50, "the end is the end");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let mut picture = picture();
        picture.packages[0].package_id = "x\x1b[2J".to_owned();
        assert!(!text(&picture, 80).contains('\x1b'));
    }
}
