//! `leasehold dev`: a whole cluster on one machine, from nothing to a seat checked out.
//!
//! It makes the files of a cluster, starts its nodes as processes of their own, does once what a
//! vendor, an operator and an application would do, prints how to do it by hand, and stays up
//! with a status line. Everything it does to the cluster goes through the HTTPS API, as anybody's
//! would.
//!
//! | module | owns |
//! |---|---|
//! | [`place`] | the directory: what is ours, what a second start finds again |
//! | [`children`] | the nodes' processes: start, notice an end, stop |
//! | [`api`] | calls to the cluster, as operator and as application |
//! | [`story`] | what is done once it is up, and how it is told |
//! | [`screen`] | progress and the status line |

mod api;
mod children;
mod place;
mod screen;
mod story;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use storage::seam::{Clock, Entropy, RealClock, RealEntropy};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::file::{LogFile, Preset, ProtocolsFile};
use crate::provision::{NodePlan, Plan, provision};
use crate::{config, pki};
use api::Api;
use children::{Children, Ended};
use place::{Place, State};
use screen::Screen;
use story::Story;

/// What `leasehold dev` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct DevOptions {
    /// Where everything is kept; a second start resumes what is there
    #[arg(long, value_name = "DIR", default_value = "./leasehold-dev")]
    pub dir: PathBuf,
    /// How many nodes: 1, 3 or 5 [default: 3]
    #[arg(long, value_name = "N", value_parser = nodes())]
    pub nodes: Option<u64>,
    /// Gateways listen on PORT+1 and up, peers on PORT+11 and up [default: 7400]
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
    /// Remove what an earlier start left in DIR and begin anew
    #[arg(long)]
    pub clean: bool,
    /// Stop as soon as everything was done once
    #[arg(long)]
    pub once: bool,
    /// Also serve the older borrow and return API (`classic`)
    #[arg(long)]
    pub classic: bool,
}

fn nodes() -> impl TypedValueParser<Value = u64> {
    PossibleValuesParser::new(["1", "3", "5"]).map(|text| text.parse().unwrap_or(3))
}

/// Why `dev` ended badly. Each is one line.
#[derive(Debug, Error)]
pub enum DevError {
    /// The options do not go together with what is there.
    #[error("{0}")]
    Usage(String),
    /// The cluster answered, and said no.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl DevError {
    /// The process's exit status for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused(_) | Self::Failed(_) => 1,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, DevError>;

pub(crate) fn failed(reason: impl Into<String>) -> DevError {
    DevError::Failed(reason.into())
}

/// Runs until a signal.
pub async fn run(options: &DevOptions) -> Result<()> {
    pki::install_provider();
    let mut interrupted = Interrupt::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(RealEntropy);
    let screen = Screen::new();
    let mut place = Place::open(options)?;
    check_ports(&place.state)?;
    if !place.state.complete {
        make_files(&mut place, &screen, &*clock, &*entropy)?;
    }
    screen.step(&format!("starting {}", count(place.state.nodes, "node")));
    let mut children = Children::start(&place)?;
    let outcome = tokio::select! {
        outcome = live(&mut place, &mut children, &screen, clock, entropy, options.once) => outcome,
        name = interrupted.wait() => {
            screen.finish(&format!("{name}: stopping {}", count(place.state.nodes, "node")));
            Ok(())
        }
    };
    screen.clear();
    children.stop().await;
    if outcome.is_ok() {
        screen.line(&format!("stopped; start again to resume {}", place.shown()));
    }
    outcome
}

/// From started processes to the end of the status line, which only a dead cluster ends.
async fn live(
    place: &mut Place,
    children: &mut Children,
    screen: &Screen,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    once: bool,
) -> Result<()> {
    let api = Api::new(place, clock.clone(), entropy)?;
    let made = tokio::select! {
        made = make_story(place, &api, screen, &*clock) => made?,
        ended = children.any_ended() => return Err(failed(ended.told(place))),
    };
    place.write_dev_json(&children.pids())?;
    screen.finish("ready");
    screen.line(&made.told(place, &children.pids()));
    if once {
        return Ok(());
    }
    watch(place, children, &api, screen, &*clock).await
}

async fn make_story(
    place: &mut Place,
    api: &Api,
    screen: &Screen,
    clock: &dyn Clock,
) -> Result<Story> {
    let bound = tokio::time::timeout(READY_WITHIN, api.wait_until_ready(screen));
    match bound.await {
        Ok(ready) => ready?,
        Err(_) => return Err(failed(api.not_ready(place, READY_WITHIN).await)),
    }
    Story::make(place, api, screen, clock).await
}

/// Shows how the cluster is, once a second, until every node has been gone for a while.
///
/// A node that dies here is told and not started again: watching the others go on without it is
/// what this command is for. Whoever started it again by hand sees it counted again.
async fn watch(
    place: &Place,
    children: &mut Children,
    api: &Api,
    screen: &Screen,
    clock: &dyn Clock,
) -> Result<()> {
    let mut rounds = tokio::time::interval(Duration::from_secs(1));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let started_ns = clock.monotonic_ns();
    let mut last_sign_ns = started_ns;
    let mut last_end: Option<Ended> = None;
    loop {
        tokio::select! {
            ended = children.any_ended() => {
                screen.event(&format!("{}; {}", ended.told(place), ended.restart(place)));
                last_end = Some(ended);
                continue;
            }
            _ = rounds.tick() => {}
        }
        let health = api.health().await;
        let now_ns = clock.monotonic_ns();
        if health.nodes_up > 0 || children.running() > 0 {
            last_sign_ns = now_ns;
        }
        screen.status(
            &health,
            place.state.nodes,
            now_ns.saturating_sub(started_ns) / 1_000_000_000,
        );
        let silent = Duration::from_nanos(now_ns.saturating_sub(last_sign_ns));
        if let Some(ended) = last_end.as_ref().filter(|_| silent > ALL_GONE_FOR) {
            return Err(failed(format!("every node is gone; {}", ended.told(place))));
        }
    }
}

fn make_files(
    place: &mut Place,
    screen: &Screen,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<()> {
    screen.step("making keys and certificates");
    let state = &place.state;
    let plan = Plan {
        client_id: CLIENT_ID.to_owned(),
        org_domain: ORG_DOMAIN.to_owned(),
        preset: Preset::Lan,
        log: LogFile::default(),
        protocols: ProtocolsFile { classic: state.classic, ..ProtocolsFile::default() },
        nodes: (1..=state.nodes)
            .map(|id| NodePlan {
                id,
                listen: state.gateway_address(id),
                peer_listen: state.peer_address(id),
            })
            .collect(),
    };
    let nodes = state.nodes;
    let progress =
        |id| screen.progress(&format!("making keys and certificates: node {id} of {nodes}"));
    let made = provision(&place.dir, &plan, clock, entropy, &progress)
        .map_err(|error| failed(config::chain(&error)))?;
    place.state.cluster_id = made.cluster_id;
    place.state.admin_token = made.admin_token.expose().to_owned();
    place.state.complete = true;
    place.save_state()
}

/// Whether every port is free: found out here, where one line can say which and what to do.
fn check_ports(state: &State) -> Result<()> {
    for id in 1..=state.nodes {
        let uses = [(state.gateway_address(id), "gateway"), (state.peer_address(id), "peers")];
        for (address, what) in uses {
            if let Err(error) = TcpListener::bind(address) {
                let port = address.port();
                let hint = "stop what uses it, or choose others with --base-port";
                return Err(failed(match error.kind() {
                    std::io::ErrorKind::AddrInUse => {
                        format!("port {port} is in use (node {id}, {what}): {hint}")
                    }
                    _ => format!("cannot listen on {address}: {}", config::io_reason(&error)),
                }));
            }
        }
    }
    Ok(())
}

/// SIGINT and SIGTERM.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| failed(format!("signals cannot be waited for: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// `1 node`, `3 nodes`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The client of the protocol document.
const CLIENT_ID: &str = "bmw-de-001";
/// Its domain.
const ORG_DOMAIN: &str = "bmw.com";
/// From processes started to every node ready: a liveness bound, not an expectation.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// With no process and no answer for so long, there is nothing left to watch.
const ALL_GONE_FOR: Duration = Duration::from_secs(10);
