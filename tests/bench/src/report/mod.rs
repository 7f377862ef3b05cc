//! `RESULTS.md` and its plots, from `results.json` and nothing else.

pub(crate) mod plots;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::plan::{Placement, System, Workload};
use crate::progress::short;
use crate::results::{Better, Bounds, Cell, Ratio, Reached, Results, Run, TopicFigures};

/// Writes the page and the plots beside each other.
pub(crate) fn write(results: &Results, dir: &Path) -> Result<()> {
    let page = dir.join("RESULTS.md");
    fs::write(&page, render(results)?)
        .with_context(|| format!("cannot write {}", page.display()))?;
    for plot in plots::PLOTS {
        let path = dir.join(plot.file);
        fs::write(&path, plot.draw(results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The page.
pub(crate) fn render(results: &Results) -> Result<String> {
    let mut page = String::new();
    introduce(&mut page, results)?;
    targets(&mut page, &results.ratios)?;
    checks(&mut page, results)?;
    pictures(&mut page)?;
    for workload in Workload::ALL {
        cells(&mut page, results, workload)?;
    }
    topics(&mut page, &results.topics)?;
    Ok(page)
}

fn introduce(page: &mut String, results: &Results) -> Result<()> {
    let Run { commit, binary_sha256, machine, versions, missing, rounds, seconds, .. } =
        &results.run;
    writeln!(page, "# Measured\n")?;
    writeln!(page, "Written by `cargo xtask bench`; `cargo xtask bench report` writes it again.")?;
    writeln!(page, "The raw figures are in `results.json`.\n")?;
    writeln!(page, "| | |\n|---|---|")?;
    writeln!(page, "| begun | {} |", results.run.started_at)?;
    writeln!(page, "| commit | `{commit}` |")?;
    writeln!(page, "| binary, SHA-256 | `{binary_sha256}` |")?;
    let of = &machine.processor;
    let memory = machine.memory_mb;
    writeln!(page, "| machine | {} cores, {of}, {memory} MB of memory |", machine.cores)?;
    writeln!(page, "| kernel, file system | {}, {} |", machine.kernel, machine.file_system)?;
    for (system, version) in versions {
        writeln!(page, "| {system} | {version} |")?;
    }
    for (system, why) in missing {
        writeln!(page, "| {system} | not measured: {why} |")?;
    }
    writeln!(page, "| rounds | {rounds}; a figure is the median |")?;
    writeln!(page, "| counted in each cell | {seconds} s |\n")?;
    if results.run.quick {
        writeln!(page, "A quick run, for trying out: too short to compare by.\n")?;
    }
    if !results.earlier_runs.is_empty() {
        writeln!(page, "Not all of it is of this run: rows marked * are of an earlier one.")?;
        writeln!(page, "Nothing is compared across two runs.\n")?;
        for run in &results.earlier_runs {
            writeln!(page, "* run {}: commit `{}`", run.run, run.commit)?;
        }
        writeln!(page)?;
    }
    writeln!(page, "The load generator shares the cores with what it measures.")?;
    writeln!(
        page,
        "Ours are three nodes as they come: TLS, fsync, access tokens, audit; a checkout is one \
         replicated write."
    )?;
    writeln!(
        page,
        "etcd's are three nodes, once as they come and once with TLS and authentication; a \
         checkout there is a lease and a transaction that creates the seat's key, a cycle adds the \
         lease's end."
    )?;
    writeln!(page, "PostgreSQL is one node; a checkout is one `FOR UPDATE SKIP LOCKED`.")?;
    writeln!(page, "A peer that was asked in several ways counts with the better one.\n")?;
    Ok(())
}

fn targets(page: &mut String, ratios: &[Ratio]) -> Result<()> {
    writeln!(page, "## Targets\n")?;
    writeln!(page, "| what | unit | ours | peer | ratio | must | stretch | |")?;
    writeln!(page, "|---|---|---|---|---|---|---|---|")?;
    for row in ratios {
        let number = |number: Option<f64>| number.map_or("–".to_owned(), short);
        let bound = |bound: f64| bound_text(row, bound);
        let reached = match row.reached {
            Reached::Stretch => "stretch",
            Reached::Must => "must",
            Reached::Neither => "**missed**",
            Reached::Unknown => "–",
        };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {reached} |",
            row.what,
            row.unit,
            number(row.ours),
            number(row.peer),
            number(row.ratio),
            bound(row.must),
            bound(row.stretch),
        )?;
    }
    writeln!(page)?;
    let notes: Vec<String> = ratios.iter().filter_map(note_of).collect();
    if !notes.is_empty() {
        writeln!(page, "{}\n", notes.join("\n"))?;
    }
    Ok(())
}

fn bound_text(row: &Ratio, bound: f64) -> String {
    let sign = match row.better {
        Better::Higher => "≥",
        Better::Lower => "≤",
    };
    let times = if row.bounds == Bounds::Ratio { "x" } else { "" };
    format!("{sign} {bound}{times}")
}

fn note_of(row: &Ratio) -> Option<String> {
    if let Some(reason) = &row.reason {
        return Some(format!("* {}: {reason}.", row.what));
    }
    let beside = |(name, figure): (&String, &f64)| format!("{name} {}", short(*figure));
    let beside: Vec<String> = row.beside.iter().map(beside).collect();
    (!beside.is_empty()).then(|| format!("* {}; beside it: {}.", row.what, beside.join(", ")))
}

fn checks(page: &mut String, results: &Results) -> Result<()> {
    if results.checks.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Nothing was switched off\n")?;
    writeln!(page, "| check | holds | seen |\n|---|---|---|")?;
    for check in &results.checks {
        let holds = if check.ok { "yes" } else { "**no**" };
        let mark = mark(results, &check.run);
        writeln!(page, "| `{}`{mark} | {holds} | {} |", check.id, check.seen)?;
    }
    writeln!(page)?;
    Ok(())
}

fn pictures(page: &mut String) -> Result<()> {
    writeln!(page, "## Checkouts by clients\n")?;
    for plot in plots::PLOTS {
        writeln!(page, "![{}]({})\n", plot.title, plot.file)?;
    }
    Ok(())
}

fn cells(page: &mut String, results: &Results, workload: Workload) -> Result<()> {
    let of_it = |cell: &&Cell| cell.key.workload == workload;
    let mut cells: Vec<&Cell> = results.cells.iter().filter(of_it).collect();
    if cells.is_empty() {
        return Ok(());
    }
    cells.sort_by_key(|cell| (cell.key.clients, cell.key));
    writeln!(page, "## `{workload}`: {}\n", workload.about())?;
    writeln!(
        page,
        "| clients | system | 1/s | p50 ms | p99 ms | p99.9 ms | server CPU-s per 1,000 | \
         generator | bytes written | MB resident | syncs per node and s | errors |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for cell in cells {
        let figures = &cell.median;
        let list = |numbers: Vec<f64>| match numbers.is_empty() {
            true => "–".to_owned(),
            false => numbers.into_iter().map(short).collect::<Vec<_>>().join(" / "),
        };
        let syncs = figures.fdatasyncs.iter().map(|syncs| syncs / figures.seconds).collect();
        writeln!(
            page,
            "| {} | {}{} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cell.key.clients,
            name_of(cell),
            mark(results, &cell.run),
            short(figures.per_second),
            short(figures.times.p50_ms),
            short(figures.times.p99_ms),
            short(figures.times.p999_ms),
            short(figures.server_cpu_s_per_1000),
            short(figures.generator_cpu_s_per_1000),
            short(figures.written_bytes_per_operation),
            list(figures.resident_mb.clone()),
            list(syncs),
            short(figures.errors),
        )?;
    }
    writeln!(page)?;
    Ok(())
}

/// A system, and how it was asked where that is not all the same.
fn name_of(cell: &Cell) -> String {
    let key = cell.key;
    let how = match key.system {
        System::Leasehold | System::Postgres => String::new(),
        System::Etcd | System::EtcdAuth => format!(" {}", key.variant),
    };
    let place = match key.placement {
        Placement::Spread => "",
        Placement::Leader => " at the leader",
        Placement::Follower => " at a follower",
    };
    format!("{}{how}{place}", key.system)
}

fn mark(results: &Results, run: &str) -> &'static str {
    if run == results.run.run { "" } else { " *" }
}

fn topics(page: &mut String, topics: &[TopicFigures]) -> Result<()> {
    if topics.is_empty() {
        return Ok(());
    }
    writeln!(page, "## By themselves\n")?;
    for found in topics {
        writeln!(page, "### `{}`: {}\n", found.topic, found.topic.about())?;
        writeln!(page, "| figure | |\n|---|---|")?;
        for (name, figure) in &found.figures {
            writeln!(page, "| `{name}` | {} |", short(*figure))?;
        }
        for (name, figures) in &found.series {
            let figures: Vec<String> = figures.iter().copied().map(short).collect();
            writeln!(page, "| `{name}` | {} |", figures.join(", "))?;
        }
        writeln!(page)?;
        for note in &found.notes {
            writeln!(page, "* {note}")?;
        }
        if !found.notes.is_empty() {
            writeln!(page)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Check;
    use crate::results::tests::{made_up, results_of};

    fn small() -> Results {
        let mut results = results_of(&[
            made_up(System::Leasehold, Workload::Checkout, 64, 20_000.0),
            made_up(System::Etcd, Workload::Checkout, 64, 2_000.0),
        ]);
        results.run.missing.insert("postgres".to_owned(), "initdb not found".to_owned());
        results.checks.push(Check {
            id: "tls_1_3".to_owned(),
            run: "r1".to_owned(),
            ok: true,
            seen: "TLSv1_3".to_owned(),
        });
        results.compare();
        results
    }

    #[test]
    fn the_page_says_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        small().write(&path).unwrap();
        let results = Results::read(&path).unwrap();
        write(&results, dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("RESULTS.md")).unwrap();
        for line in [
            "| commit | `c1` |",
            "| postgres | not measured: initdb not found |",
            "| checkouts against etcd as it comes, 64 clients | 1/s | 20,000 | 2,000 | 10.0 | \
             ≥ 8x | ≥ 12x | must |",
            "| `tls_1_3` | yes | TLSv1_3 |",
            "* checkouts against PostgreSQL, one node, 64 clients: postgres: initdb not found.",
            "## `checkout`: take a seat of one pool; given back after the measurement",
        ] {
            assert!(page.contains(line), "no {line:?} in {page}");
        }
        for plot in plots::PLOTS {
            let drawn = fs::read_to_string(dir.path().join(plot.file)).unwrap();
            assert!(drawn.starts_with("<svg"), "{drawn}");
        }
    }

    #[test]
    fn rows_of_an_earlier_run_are_marked() {
        let mut newer = results_of(&[]);
        newer.run.run = "r2".to_owned();
        let (key, figures) = made_up(System::Leasehold, Workload::Checkout, 64, 30_000.0);
        newer.add(key, "2026-01-03T00:00:00Z", figures);
        newer.take_older(small());
        let page = render(&newer).unwrap();
        for line in
            ["| 64 | leasehold | 30,000 |", "| 64 | etcd http * | 2,000 |", "* run r1: commit `c1`"]
        {
            assert!(page.contains(line), "no {line:?} in {page}");
        }
    }

    #[test]
    fn nothing_measured_is_a_page_too() {
        let page = render(&results_of(&[])).unwrap();
        assert!(page.contains("## Targets"), "{page}");
    }
}
