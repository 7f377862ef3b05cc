//! The report of a run: one HTML file that needs nothing else.
//!
//! Verdict and figures, what each checker says, the smallest part that fails when there is one, a
//! timeline with a lane for each client, latencies and rates, the faults. No script, no font and no
//! picture comes from elsewhere, so it can be kept beside the history for as long as that is.

mod latency;
mod svg;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use crate::check::told::told;
use crate::history::{Header, History, HistoryError};
use crate::operation::{Operation, pair};
use crate::verdict::{Check, SubHistory, Verdict};
use crate::windows::{FaultWindow, windows};
use svg::{LEGEND, escape};

/// Name of the file.
pub const REPORT_FILE: &str = "report.html";
/// Operations of the smallest failing part that are shown.
const MAX_SHOWN: usize = 200;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The history could not be read.
    #[error("the history cannot be read")]
    History(#[from] HistoryError),
    /// The file could not be written.
    #[error("the report cannot be written")]
    Io(#[from] std::io::Error),
}

/// Writes the report of a run into its directory.
///
/// # Errors
/// When the history cannot be read, or the file not written.
pub fn write(dir: &Path, verdict: &Verdict) -> Result<(), ReportError> {
    let history = History::read(dir)?;
    Ok(std::fs::write(dir.join(REPORT_FILE), page(&history, verdict))?)
}

/// The report as text.
pub fn page(history: &History, verdict: &Verdict) -> String {
    let (operations, _) = pair(&history.events);
    let windows = windows(&history.events);
    let end_ns = history.end_ns();
    let Header { workload, faults, seed, .. } = &history.header;
    let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(", ") };
    let title = format!("{workload} under {faults}, seed {seed}");
    let mut body = head(&history.header, verdict, &title);
    body.push_str(&checks(&verdict.checks));
    if let Some(small) = verdict.checks.iter().find_map(|check| check.smallest.as_ref()) {
        body.push_str(&smallest(small, &operations, &windows));
    }
    let _ = write!(
        body,
        "<h2>What each client did</h2>{LEGEND}{}<h2>How long answers took</h2>{}<h2>Answers a \
         second</h2>{}{}{}",
        timeline::whole(&operations, &windows, end_ns),
        latency::latencies(&operations, &windows, end_ns),
        latency::rates(&operations, &windows, end_ns),
        by_act(&operations),
        faults_table(&windows),
    );
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}: {}</title><style>{}</style></head><body>{body}</body></html>\n",
        verdict.judgement,
        escape(&title),
        include_str!("style.css"),
    )
}

fn head(header: &Header, verdict: &Verdict, title: &str) -> String {
    let figures = &verdict.figures;
    let packages = header.packages.iter().map(|terms| {
        format!("{}: {} + {} seats, {} ms", terms.name, terms.commit, terms.overage, terms.ttl_ms)
    });
    let facts = [
        ("commit", header.commit.clone()),
        ("nodes", header.nodes.len().to_string()),
        ("length", format!("{:.1} s", figures.length_ms as f64 / 1e3)),
        ("operations", figures.operations.to_string()),
        ("ok", figures.ok.to_string()),
        ("refused or not done", figures.failed.to_string()),
        ("unknown", figures.unknown.to_string()),
        ("faults, of which hit", format!("{}, {}", figures.faults, figures.faults_hit)),
        ("failover bound", format!("{} ms", header.failover_bound_ms())),
        ("packages", packages.collect::<Vec<_>>().join("; ")),
    ];
    let mut text = format!(
        r#"<h1>{} <span class="badge {}">{}</span></h1><dl class="facts">"#,
        escape(title),
        verdict.judgement,
        verdict.judgement
    );
    for (name, value) in facts {
        let _ = write!(text, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    text + "</dl>"
}

fn checks(checks: &[Check]) -> String {
    let mut text = String::from(
        "<h2>What the checkers say</h2><div class='scroll'><table \
         class='checks'><thead><tr><th>checker</th><th>verdict</th><th>what it looked at, and \
         found</th></tr></thead><tbody>",
    );
    for check in checks {
        let _ = write!(
            text,
            r#"<tr><td><code>{}</code></td><td><span class="badge {}">{}</span></td><td>{}"#,
            escape(&check.name),
            check.judgement,
            check.judgement,
            escape(&check.summary)
        );
        if !check.findings.is_empty() {
            let count = check.findings.len() + check.more;
            let _ = write!(text, "<details open><summary>{count} found</summary><ul>");
            for finding in &check.findings {
                let events: Vec<String> =
                    finding.events.iter().take(12).map(u64::to_string).collect();
                let _ = write!(text, "<li>{}", escape(&finding.what));
                if !events.is_empty() {
                    let _ =
                        write!(text, r#" <span class="soft">events {}</span>"#, events.join(" "));
                }
                text.push_str("</li>");
            }
            text.push_str("</ul></details>");
        }
        text.push_str("</td></tr>");
    }
    text + "</tbody></table></div>"
}

fn smallest(small: &SubHistory, operations: &[Operation], windows: &[FaultWindow]) -> String {
    let events: BTreeSet<u64> = small.events.iter().copied().collect();
    let shown: Vec<&Operation> =
        operations.iter().filter(|it| events.contains(&it.invoke)).collect();
    // The end is where it fails.
    let shown = &shown[shown.len().saturating_sub(MAX_SHOWN)..];
    let mut text = format!(
        "<h2>The smallest part that fails</h2><p>Package <code>{}</code>, {} operations. No order \
         of them explains these answers.</p>{LEGEND}{}",
        escape(&small.package),
        events.len().div_ceil(2),
        timeline::part(shown, windows),
    );
    let _ = write!(
        text,
        "<p>As far as an order goes, the package stands so: {}.</p><p>What does not fit there:</p>\
         <div class=\"scroll\"><pre>{}</pre></div>",
        escape(&small.stuck_at),
        escape(&small.blocked.join("\n")),
    );
    let lines: Vec<String> = shown.iter().map(|operation| told(operation)).collect();
    let _ = write!(
        text,
        "<p>All of it:</p><div class=\"scroll\"><pre>{}</pre></div>",
        escape(&lines.join("\n"))
    );
    text
}

/// How many of each act there were, and how they ended.
fn by_act(operations: &[Operation]) -> String {
    let mut counts: BTreeMap<&str, (BTreeMap<&str, u64>, Vec<u64>)> = BTreeMap::new();
    for operation in operations {
        let (ends, took) = counts.entry(operation.act.name()).or_default();
        *ends.entry(svg::class(operation)).or_default() += 1;
        if let Some(at_ns) = operation.return_ns {
            took.push(at_ns - operation.invoke_ns);
        }
    }
    let mut text = String::from(
        "<h2>Acts</h2><div class='scroll'><table><thead><tr><th>act</th><th \
         class='num'>ok</th><th class='num'>refused</th><th class='num'>not done</th><th \
         class='num'>unknown</th><th class='num'>median</th><th class='num'>99 \
         %</th></tr></thead><tbody>",
    );
    for (act, (ends, mut took)) in counts {
        took.sort_unstable();
        let at = |part: f64| {
            let place = ((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1));
            took.get(place).map_or_else(String::new, |ns| format!("{:.1} ms", *ns as f64 / 1e6))
        };
        let _ = write!(text, "<tr><td><code>{act}</code></td>");
        for class in ["ok", "refused", "fail", "info"] {
            let _ = write!(text, r#"<td class="num">{}</td>"#, ends.get(class).unwrap_or(&0));
        }
        let _ = write!(
            text,
            r#"<td class="num">{}</td><td class="num">{}</td></tr>"#,
            at(0.5),
            at(0.99)
        );
    }
    text + "</tbody></table></div>"
}

fn faults_table(windows: &[FaultWindow]) -> String {
    if windows.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<h2>Faults</h2><div \
         class='scroll'><table><thead><tr><th>fault</th><th>nodes</th><th \
         class='num'>from</th><th class='num'>to</th><th \
         class='num'>hits</th><th>what</th></tr></thead><tbody>",
    );
    let seconds = |ns: u64| format!("{:.3} s", ns as f64 / 1e9);
    for window in windows {
        let nodes: Vec<String> = window.targets.iter().map(u64::to_string).collect();
        let _ = write!(
            text,
            "<tr><td><code>{}</code></td><td>{}</td><td class='num'>{}</td><td \
             class='num'>{}</td><td class='num'>{}</td><td>{}</td></tr>",
            escape(&window.name),
            nodes.join(" "),
            seconds(window.start_ns),
            window.end_ns.map_or_else(|| "never healed".to_owned(), seconds),
            window.hits,
            escape(&window.detail),
        );
    }
    text + "</tbody></table></div>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Options, Run, judge};
    use crate::evidence::Evidence;
    use crate::history::{Act, Answer, Event, Kind, PackageTerms, Process};

    /// A history of one package in which a read sees a seat in use that nobody took.
    fn wrong() -> History {
        let terms = PackageTerms {
            name: "<b>P".to_owned(),
            commit: 1,
            overage: 0,
            ttl_ms: 1000,
            pools: vec![],
            rotation: true,
            offline_skew_ms: 0,
        };
        let header = Header {
            workload: "reads".to_owned(),
            faults: vec![],
            seed: 1,
            commit: "abc".to_owned(),
            nodes: vec![1],
            packages: vec![terms],
            election_timeout_ms: 300,
            epsilon: 0.02,
        };
        let event = |index, kind, in_use: Option<u32>| Event {
            index,
            time_ns: 1_000_000 * index,
            process: Process::Client(1),
            kind,
            node: Some(1),
            act: Act::ReadPackage { package: "<b>P".to_owned(), stale: false },
            answer: in_use.map(|in_use| Answer::Package {
                in_use,
                total: 1,
                index: 0,
                leases: None,
            }),
            note: None,
        };
        let events = vec![
            event(0, Kind::Invoke, None),
            event(1, Kind::Ok, Some(0)),
            event(2, Kind::Invoke, None),
            event(3, Kind::Ok, Some(1)),
        ];
        History { header, events }
    }

    #[test]
    fn a_report_needs_nothing_else_and_shows_what_fails() {
        let history = wrong();
        let verdict = judge(&Run::new(history.clone(), Evidence::default()), &Options::default());
        let page = page(&history, &verdict);
        for wanted in ["invalid", "The smallest part that fails", "1 of 1 in use", "linearizable"] {
            assert!(page.contains(wanted), "{wanted} is missing");
        }
        assert!(page.contains("&lt;b&gt;P") && !page.contains("<b>P"), "text is not escaped");
        for from_elsewhere in ["http:", "https:", "<script", "<link", "url("] {
            assert!(!page.contains(from_elsewhere), "{from_elsewhere}");
        }
    }

    #[test]
    fn it_is_written_beside_its_history() {
        let dir = tempfile::tempdir().unwrap();
        let history = wrong();
        history.write(dir.path()).unwrap();
        let verdict = crate::check::all(dir.path(), &Options::default()).unwrap();
        write(dir.path(), &verdict).unwrap();
        verdict.write(dir.path()).unwrap();
        let text = std::fs::read(dir.path().join(crate::verdict::VERDICT_FILE)).unwrap();
        assert_eq!(serde_json::from_slice::<Verdict>(&text).unwrap(), verdict);
        assert!(dir.path().join(REPORT_FILE).exists());
    }
}
