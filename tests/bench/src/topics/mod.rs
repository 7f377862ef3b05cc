//! What takes longer than a cell: each topic has clusters of its own and can be asked for alone.
//!
//! Those that need a million live leases share one cluster when several are asked for, since taking
//! a million seats through the public API takes minutes; their order is such that none disturbs the
//! next.

mod delay;
mod elections;
mod failover;
mod million;
mod regions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::probe::Probe;
use crate::load::{Driven, Pace, Session, drive};
use crate::machine;
use crate::plan::Topic;
use crate::progress::{Progress, short};
use crate::results::{Results, TopicFigures};

/// How topics are measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where all data is.
    pub(crate) dir: PathBuf,
    /// Load before counting begins.
    pub(crate) warm_up: Duration,
    /// Counted load, where a topic does not say otherwise.
    pub(crate) counted: Duration,
    /// How many leases are many.
    pub(crate) live_leases: usize,
    /// How often a leader is killed.
    pub(crate) kills: usize,
    /// How often all nodes are.
    pub(crate) restarts: usize,
    /// For how long elections are counted.
    pub(crate) elections_for: Duration,
    /// Why etcd is not measured beside ours; `None`: it is.
    pub(crate) etcd_missing: Option<String>,
}

/// What a topic found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    figures: BTreeMap<String, f64>,
    series: BTreeMap<String, Vec<f64>>,
    notes: Vec<String>,
}

/// Measures topics; `save` is called after each.
pub(crate) async fn run(
    topics: &[Topic],
    settings: &Settings,
    progress: &Progress,
    results: &mut Results,
    save: &dyn Fn(&Results) -> Result<()>,
) -> Result<()> {
    let of_million = [Topic::Growth, Topic::Memory, Topic::Restart, Topic::Snapshot];
    let shared: Vec<Topic> =
        of_million.into_iter().filter(|topic| topics.contains(topic)).collect();
    let mut keep = |topic: Topic, found: Found| {
        let mut found = found;
        if of_million.contains(&topic) && settings.live_leases != A_MILLION {
            found.notes.push(format!("with {} leases for a million", settings.live_leases));
        }
        show(progress, topic, &found);
        progress.advance(expected_one(topic, settings));
        note(results, topic, found);
        save(results)
    };
    if !shared.is_empty() {
        million::run(&shared, settings, progress, &mut keep).await.context("a million leases")?;
    }
    for topic in topics.iter().filter(|topic| !of_million.contains(topic)) {
        progress.doing(topic.about());
        let found = match topic {
            Topic::Failover => failover::run(settings, progress).await,
            Topic::Elections => elections::run(settings, progress).await,
            _ => regions::run(settings, progress).await,
        };
        keep(*topic, found.with_context(|| topic.name())?)?;
    }
    Ok(())
}

/// How long topics take, about.
pub(crate) fn expected(topics: &[Topic], settings: &Settings) -> Duration {
    topics.iter().map(|topic| expected_one(*topic, settings)).sum()
}

fn expected_one(topic: Topic, settings: &Settings) -> Duration {
    let filling = Duration::from_secs(settings.live_leases as u64 / 4_000);
    let counts = |count: usize, each: Duration| each * u32::try_from(count).unwrap_or(u32::MAX);
    match topic {
        // Whichever comes first takes the leases; that it is not counted twice matters little.
        Topic::Growth => settings.counted * 2 + filling,
        Topic::Memory => million::QUIET + million::FULL_LOAD + AROUND,
        Topic::Restart => counts(settings.restarts, Duration::from_secs(15)),
        Topic::Snapshot => settings.counted * 3 + AROUND,
        Topic::Failover => counts(settings.kills, Duration::from_secs(8)) + AROUND,
        Topic::Elections => settings.elections_for + AROUND,
        Topic::Regions => settings.counted * 20 + AROUND,
    }
}

fn note(results: &mut Results, topic: Topic, found: Found) {
    results.topics.retain(|known| known.topic != topic);
    results.topics.push(TopicFigures {
        topic,
        run: results.run.run.clone(),
        commit: results.run.commit.clone(),
        measured_at: machine::now(),
        figures: found.figures,
        series: found.series,
        notes: found.notes,
    });
    results.topics.sort_by_key(|topic| topic.topic);
}

fn show(progress: &Progress, topic: Topic, found: &Found) {
    progress.say(format!("{topic}: {}", topic.about()));
    for (name, figure) in &found.figures {
        progress.say(format!("  {name:<24} {}", short(*figure)));
    }
    for note in &found.notes {
        progress.say(format!("  {note}"));
    }
}

impl Found {
    fn figure(&mut self, name: &str, figure: f64) {
        self.figures.insert(name.to_owned(), figure);
    }
}

/// A closed loop for so long.
async fn load_for<S: Session>(
    sessions: Vec<S>,
    warm_up: Duration,
    counted: Duration,
    probe: &Probe,
) -> Result<Driven> {
    let counted = async {
        tokio::time::sleep(counted).await;
        Ok(())
    };
    let (driven, ()) = drive(sessions, Pace::Closed, warm_up, probe, counted).await?;
    Ok(driven)
}

const A_MILLION: usize = 1_000_000;
/// Founding, connecting and cleaning up.
const AROUND: Duration = Duration::from_secs(20);
