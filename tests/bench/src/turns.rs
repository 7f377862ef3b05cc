//! Does the turns of a plan: starts a system, measures its cells, stops it.
//!
//! Each round has data directories of its own, made when a system is first needed, so that no round
//! carries what those before have left. Within a round a system that is stopped keeps its data: the
//! leases that heartbeats renew are taken once. A peer that cannot be started or founded is missing
//! from then on, with the reason; ours must not fail.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::checks;
use crate::load::probe::Probe;
use crate::load::{Driven, Pace, Session, drive};
use crate::plan::{OPEN_PER_SECOND, Placement, System, Turn, Variant, Workload};
use crate::progress::Progress;
use crate::results::{CellKey, Figures, Results};
use crate::systems::etcd::Etcd;
use crate::systems::leasehold::Leasehold;
use crate::systems::postgres::Postgres;
use crate::{machine, systems};

/// How cells are measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where all data is.
    pub(crate) dir: PathBuf,
    /// Load before counting begins.
    pub(crate) warm_up: Duration,
    /// Counted load.
    pub(crate) counted: Duration,
    /// Leases that heartbeats renew.
    pub(crate) held_leases: usize,
}

/// The systems of one round, as far as they were needed.
#[derive(Debug, Default)]
struct Fleet {
    round: usize,
    leasehold: Option<Leasehold>,
    etcd: Option<Etcd>,
    etcd_auth: Option<Etcd>,
    postgres: Option<Postgres>,
}

/// Does all turns; figures go into the results as they come, and `save` is called after each turn.
pub(crate) async fn run(
    turns: &[Turn],
    settings: &Settings,
    progress: &Progress,
    results: &mut Results,
    save: &dyn Fn(&Results) -> Result<()>,
) -> Result<()> {
    let mut fleet = Fleet::default();
    if !turns.is_empty() {
        progress.say_heading();
    }
    for turn in turns {
        let Turn { round, system, workload, clients, .. } = turn;
        if fleet.round != *round {
            fleet = Fleet { round: *round, ..Fleet::default() };
        }
        if results.run.missing.contains_key(system.name()) {
            progress.advance(expected(turn, settings));
            continue;
        }
        progress.doing(format!("round {round}: {workload}, {clients} clients, {system}"));
        let done = fleet.take_turn(turn, settings, progress, results).await;
        match (done, system) {
            (Ok(()), _) => {}
            (Err(error), System::Leasehold) => {
                return Err(error.context(format!("{system}, {workload}, {clients} clients")));
            }
            (Err(error), peer) => {
                progress.say(format!("{peer} is left out from here on: {error:#}"));
                results.run.missing.insert(peer.name().to_owned(), format!("{error:#}"));
                fleet.dismiss(*peer);
            }
        }
        progress.advance(expected(turn, settings));
        save(results)?;
    }
    Ok(())
}

/// How long a turn takes, about.
pub(crate) fn expected(turn: &Turn, settings: &Settings) -> Duration {
    let cell = settings.warm_up + settings.counted + AROUND_A_CELL;
    cell * u32::try_from(turn.ways.len()).unwrap_or(u32::MAX) + AROUND_A_TURN
}

impl Fleet {
    /// Ends a system at once.
    fn dismiss(&mut self, system: System) {
        match system {
            System::Leasehold => self.leasehold = None,
            System::Etcd => self.etcd = None,
            System::EtcdAuth => self.etcd_auth = None,
            System::Postgres => self.postgres = None,
        }
    }

    async fn take_turn(
        &mut self,
        turn: &Turn,
        settings: &Settings,
        progress: &Progress,
        results: &mut Results,
    ) -> Result<()> {
        match turn.system {
            System::Leasehold => self.ours(turn, settings, progress, results).await,
            System::Etcd | System::EtcdAuth => {
                self.of_etcd(turn, settings, progress, results).await
            }
            System::Postgres => self.of_postgres(turn, settings, progress, results).await,
        }
    }

    async fn ours(
        &mut self,
        turn: &Turn,
        settings: &Settings,
        progress: &Progress,
        results: &mut Results,
    ) -> Result<()> {
        if self.leasehold.is_none() {
            let founded = Leasehold::found().await.context("cannot found a cluster")?;
            let checked = checks::of_gateways(&founded, &results.run.run).await?;
            results.checks.retain(|check| checked.iter().all(|new| new.id != check.id));
            results.checks.extend(checked);
            self.leasehold = Some(founded);
        }
        let system = self.leasehold.as_mut().context("not founded")?;
        system.start().await?;
        system
            .prepare(turn.workload, settings.held_leases, &|held| tell(progress, held))
            .await
            .context("cannot prepare it")?;
        for (variant, placement) in &turn.ways {
            let sessions = system.sessions(turn.workload, *placement, turn.clients).await?;
            let before = system.newest_event().await?;
            let driven = measure(sessions, turn, settings, &system.probe()?).await?;
            let figures = audited(system, before, &driven).await?;
            note(turn, (*variant, *placement), figures, progress, results);
        }
        system.stop().await
    }

    async fn of_etcd(
        &mut self,
        turn: &Turn,
        settings: &Settings,
        progress: &Progress,
        results: &mut Results,
    ) -> Result<()> {
        let has_auth = turn.system == System::EtcdAuth;
        let slot = if has_auth { &mut self.etcd_auth } else { &mut self.etcd };
        let system = match slot {
            Some(system) => system,
            empty => empty.insert(Etcd::found(&settings.dir, has_auth).await?),
        };
        system.start().await?;
        system
            .prepare(turn.workload, settings.held_leases, &|held| tell(progress, held))
            .await
            .context("cannot prepare it")?;
        for (variant, placement) in &turn.ways {
            let (workload, clients, probe) = (turn.workload, turn.clients, system.probe()?);
            let driven = match variant {
                Variant::Http | Variant::Https | Variant::Sql => {
                    let sessions = system.web_sessions(workload, *placement, clients).await?;
                    measure(sessions, turn, settings, &probe).await?
                }
                Variant::Grpc | Variant::Stream | Variant::Stream100 => {
                    let window = if *variant == Variant::Stream100 { STREAM_WINDOW } else { 1 };
                    let sessions =
                        system.grpc_sessions(workload, *placement, clients, window).await?;
                    measure(sessions, turn, settings, &probe).await?
                }
            };
            note(turn, (*variant, *placement), Figures::of(&driven), progress, results);
        }
        system.stop().await
    }

    async fn of_postgres(
        &mut self,
        turn: &Turn,
        settings: &Settings,
        progress: &Progress,
        results: &mut Results,
    ) -> Result<()> {
        let system = match &mut self.postgres {
            Some(system) => system,
            empty => empty.insert(Postgres::found(&settings.dir).await?),
        };
        system.start().await?;
        for (variant, placement) in &turn.ways {
            let sessions = system.sessions(turn.workload, turn.clients).await?;
            let driven = measure(sessions, turn, settings, &system.probe()?).await?;
            system.free_seats().await?;
            note(turn, (*variant, *placement), Figures::of(&driven), progress, results);
        }
        system.stop().await
    }
}

/// The figures of ours, and the audit events of what was acknowledged. Where there are more, they
/// are counted by kind: an alarm that a slow disk has raised is no checkout.
async fn audited(system: &Leasehold, before: u64, driven: &Driven) -> Result<Figures> {
    let mut events = system.newest_event().await? - before;
    let mut other_events = BTreeMap::new();
    if events != driven.audited {
        let mut kinds = system.events_since(before).await?;
        let of_clients = [GRANTED, RETURNED].map(|kind| kinds.remove(kind).unwrap_or(0));
        events = of_clients.into_iter().sum();
        other_events = kinds.into_iter().map(|(kind, count)| (kind, count as f64)).collect();
    }
    Ok(Figures {
        acknowledged_writes: Some(driven.audited as f64),
        audit_events: Some(events as f64),
        other_events,
        ..Figures::of(driven)
    })
}

/// One cell.
async fn measure<S: Session>(
    sessions: Vec<S>,
    turn: &Turn,
    settings: &Settings,
    probe: &Probe,
) -> Result<Driven> {
    let pace = match turn.workload {
        Workload::Open2000 => Pace::Open { per_second: OPEN_PER_SECOND },
        _ => Pace::Closed,
    };
    let counted = async {
        tokio::time::sleep(settings.counted).await;
        Ok(())
    };
    let (driven, ()) = drive(sessions, pace, settings.warm_up, probe, counted).await?;
    Ok(driven)
}

fn note(
    turn: &Turn,
    (variant, placement): (Variant, Placement),
    figures: Figures,
    progress: &Progress,
    results: &mut Results,
) {
    let Turn { system, workload, clients, .. } = *turn;
    let key = CellKey { system, variant, placement, workload, clients };
    progress.say_cell(turn.round, &key, &figures);
    results.add(key, &machine::now(), figures);
}

fn tell(progress: &Progress, held: usize) {
    if held.is_multiple_of(TELL_EVERY) {
        progress.doing(format!("taking leases that are renewed later: {held} so far"));
    }
}

impl Figures {
    /// Of one measurement.
    pub(crate) fn of(driven: &Driven) -> Self {
        let operations = driven.operations as f64;
        Self {
            seconds: driven.seconds,
            per_second: operations / driven.seconds,
            times: driven.quantiles,
            server_cpu_s_per_1000: driven.server_cpu_s / operations * 1_000.0,
            generator_cpu_s_per_1000: driven.own_cpu_s / operations * 1_000.0,
            written_bytes_per_operation: driven.written_bytes as f64 / operations,
            resident_mb: driven.resident_bytes.iter().map(|bytes| megabytes(*bytes)).collect(),
            fdatasyncs: driven.syncs.iter().map(|syncs| *syncs as f64).collect(),
            errors: driven.errors as f64,
            first_error: driven.first_error.clone(),
            acknowledged_writes: None,
            audit_events: None,
            other_events: BTreeMap::new(),
        }
    }
}

/// Millions of bytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What is missing here, by system, with the reason.
pub(crate) fn missing(system: System) -> Option<String> {
    match system {
        System::Leasehold => None,
        System::Etcd | System::EtcdAuth => systems::etcd::Etcd::missing(),
        System::Postgres => systems::postgres::Postgres::missing(),
    }
}

const GRANTED: &str = "lease_granted";
const RETURNED: &str = "lease_returned";
/// Connecting, and giving back what was taken.
const AROUND_A_CELL: Duration = Duration::from_secs(2);
/// Starting and stopping servers.
const AROUND_A_TURN: Duration = Duration::from_secs(3);
const STREAM_WINDOW: usize = 100;
const TELL_EVERY: usize = 1_000;
