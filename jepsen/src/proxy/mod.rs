//! The network between nodes, and between clients and nodes: TCP proxies in the rig's process.
//!
//! Every node is founded with an advertised peer address at which the rig listens, and clients
//! reach a node through listeners of their own. So each byte of the cluster passes here, and each
//! *directed* link between two parties has a condition of its own: what one says may be cut while
//! the other is still heard.
//!
//! ```text
//!   node 1 ──dials──► [listener of node 2] ──► node 2        bytes 1→2 under link (1,2)
//!          ◄───────────────────────────────────              bytes 2→1 under link (2,1)
//! ```
//!
//! Membership holds one address for a node, the same for all who dial it; who has dialled is found
//! by asking the kernel which process owns the other end of the connection ([`who`]). That needs
//! neither root nor anything of the product, and no byte passes before it is known. Network
//! namespaces with packet filters would be the other way; they need root, cannot delay on a kernel
//! without `netem`, and drop what TCP then repeats, which looks the same from above.
//!
//! A cut holds bytes back and loses none, as TCP does to those above it: when it heals before the
//! ends have given up, they flow on. Loss is a connection that stalls, or that is reset.

pub mod condition;
mod pump;
#[cfg(test)]
mod tests;
mod who;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use condition::{Condition, Effects};

/// Somebody who talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A node, by id.
    Node(u64),
    /// A client, by number.
    Client(u64),
    /// Who it was could not be found: an operator's command, a process that is gone.
    Stranger,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "n{id}"),
            Self::Client(number) => write!(f, "c{number}"),
            Self::Stranger => f.write_str("?"),
        }
    }
}

/// All links, and how each is.
#[derive(Debug)]
pub struct Network {
    links: Mutex<BTreeMap<(Party, Party), Arc<Link>>>,
    processes: Mutex<BTreeMap<u32, u64>>,
    /// Ids of nodes by the places that listeners were made for.
    places: Mutex<BTreeMap<u64, u64>>,
    tasks: Mutex<JoinSet<()>>,
    seed: u64,
}

/// One direction between two parties.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) condition: watch::Sender<Condition>,
    pub(crate) effects: Effects,
}

impl Network {
    /// A network where all is well; losses are drawn from the seed.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            links: Mutex::default(),
            processes: Mutex::default(),
            places: Mutex::default(),
            tasks: Mutex::default(),
            seed,
        })
    }

    /// Listens for nodes that dial a peer, and passes them on to where it really listens; gives the
    /// address to advertise. A node gets its id only once it has an address, so the listener is for
    /// a place: [`Network::lead_to`] says who has come to live there.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn before_peer(self: &Arc<Self>, place: u64, real: SocketAddr) -> Result<SocketAddr> {
        self.listen(Listener::Peer { place }, real).await
    }

    /// Which node lives at a place.
    pub fn lead_to(&self, place: u64, node: u64) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(place, node);
    }

    /// The same for one client and a node's gateway.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn before_gateway(
        self: &Arc<Self>,
        client: u64,
        node: u64,
        real: SocketAddr,
    ) -> Result<SocketAddr> {
        self.listen(Listener::Gateway { client, node }, real).await
    }

    /// Which process a node is.
    pub fn is_process(&self, node: u64, pid: u32) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|_, known| *known != node);
        processes.insert(pid, node);
    }

    /// Sets how a link is from now on.
    pub fn set(&self, from: Party, to: Party, condition: Condition) {
        self.link(from, to).condition.send_replace(condition);
    }

    /// All is well again everywhere between nodes.
    pub fn heal_nodes(&self) {
        self.heal_where(|from, to| matches!((from, to), (Party::Node(_), Party::Node(_))));
    }

    /// All is well again everywhere.
    pub fn heal(&self) {
        self.heal_where(|_, _| true);
    }

    fn heal_where(&self, chosen: impl Fn(Party, Party) -> bool) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        for ((from, to), link) in links.iter() {
            if chosen(*from, *to) {
                link.condition.send_replace(Condition::default());
            }
        }
    }

    /// What has happened on a link so far.
    pub fn effects(&self, from: Party, to: Party) -> condition::Counted {
        self.link(from, to).effects.counted()
    }

    fn link(&self, from: Party, to: Party) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let condition = watch::Sender::new(Condition::default());
            Arc::new(Link { condition, effects: Effects::default() })
        };
        links.entry((from, to)).or_insert_with(fresh).clone()
    }

    async fn listen(self: &Arc<Self>, of: Listener, real: SocketAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let network = self.clone();
        let accepting = async move {
            let mut connections = JoinSet::new();
            let mut count = 0_u64;
            loop {
                while connections.try_join_next().is_some() {}
                let Ok((stream, from)) = listener.accept().await else {
                    // Too many open files, most likely: not a reason to spin.
                    tokio::time::sleep(pump::AFTER_A_FAILED_ACCEPT).await;
                    continue;
                };
                count += 1;
                connections.spawn(network.clone().pass(of, real, (stream, from), count));
            }
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(accepting);
        Ok(address)
    }

    async fn pass(
        self: Arc<Self>,
        of: Listener,
        real: SocketAddr,
        accepted: (TcpStream, SocketAddr),
        count: u64,
    ) {
        let (inner, from_address) = accepted;
        let (from, to) = match of {
            Listener::Gateway { client, node } => (Party::Client(client), Party::Node(node)),
            Listener::Peer { place } => {
                let places = &self.places;
                let node =
                    places.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied();
                let from = self.dialler_of(from_address, inner.local_addr().ok()).await;
                (from, node.map_or(Party::Stranger, Party::Node))
            }
        };
        let Ok(outer) = TcpStream::connect(real).await else {
            // Nobody listens there: whoever dialled is told so by a reset.
            let _ = inner.set_zero_linger();
            return;
        };
        let links = pump::Links { there: self.link(from, to), back: self.link(to, from) };
        let name = format!("{from} {to} {count}");
        pump::run(inner, outer, links, self.seed, &name).await;
    }

    /// The node whose process has dialled.
    async fn dialler_of(&self, from: SocketAddr, to: Option<SocketAddr>) -> Party {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(to) = to else { return Party::Stranger };
        let found =
            tokio::task::spawn_blocking(move || who::has_dialled(from, to, &processes)).await;
        found.ok().flatten().map_or(Party::Stranger, Party::Node)
    }
}

/// What a listener stands before.
#[derive(Debug, Clone, Copy)]
enum Listener {
    /// The peers' listener of whoever lives at a place.
    Peer { place: u64 },
    /// The gateway of a node, for one client.
    Gateway { client: u64, node: u64 },
}
