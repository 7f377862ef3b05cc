//! Distance between nodes: what one says arrives late by half of the round trip between the two.
//!
//! Every node is known to the others under the address of a *door*, which passes bytes on to it.
//! Who has dialled is found by asking the kernel which process owns the other end of the
//! connection; that needs no special rights. Delays are kept by threads that sleep, which the
//! kernel wakes within some 50 µs: the timers of an async runtime come in whole milliseconds, and
//! four of them in a row would be as much as what is measured. A delay shifts bytes in time and
//! does not thin them out.
//!
//! The fault rig has a network of its own, for faults; this one is for being exact.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use procfs::process::{FDTarget, Process};
use storage::seam::{Clock, RealClock};

use super::regions::REGIONS;

/// How far regions are from each other.
#[derive(Debug, Clone)]
pub(super) struct Delays(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: RealClock,
    /// Half of each round trip, from the region that dials to the one that is dialled.
    one_way: [[Duration; REGIONS]; REGIONS],
    /// Regions of processes.
    regions: Mutex<BTreeMap<i32, usize>>,
    has_begun: AtomicBool,
    /// Connections of which nobody knew who dialled.
    strangers: AtomicU64,
}

/// Where a node is reached.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    is_closed: Arc<AtomicBool>,
}

impl Delays {
    /// No delay until [`Delays::begin`].
    pub(super) fn new(one_way: [[Duration; REGIONS]; REGIONS]) -> Self {
        Self(Arc::new(Inner {
            clock: RealClock::new(),
            one_way,
            regions: Mutex::default(),
            has_begun: AtomicBool::new(false),
            strangers: AtomicU64::new(0),
        }))
    }

    /// A door of the node in a region.
    pub(super) fn open_door(&self, region: usize) -> Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port")?;
        let door = Door {
            address: listener.local_addr()?,
            target: Arc::default(),
            is_closed: Arc::default(),
        };
        let (inner, target) = (Arc::clone(&self.0), Arc::clone(&door.target));
        let is_closed = Arc::clone(&door.is_closed);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_closed.load(Ordering::Relaxed) {
                    return;
                }
                let Some(target) = *target.lock() else { continue };
                // Nobody listens there: whoever dialled sees the connection end.
                let Ok(outer) = TcpStream::connect(target) else { continue };
                let _ = inner.clone().pass(stream, outer, region);
            }
        });
        Ok(door)
    }

    /// Which region a process is in.
    pub(super) fn lives_in(&self, pid: i32, region: usize) {
        self.0.regions.lock().insert(pid, region);
    }

    /// Distances are as they are from now on.
    pub(super) fn begin(&self) {
        self.0.has_begun.store(true, Ordering::Relaxed);
    }

    /// Connections whose dialler was not found, and which are not delayed.
    pub(super) fn strangers(&self) -> u64 {
        self.0.strangers.load(Ordering::Relaxed)
    }
}

impl Door {
    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads to.
    pub(super) fn lead_to(&self, target: SocketAddr) {
        *self.target.lock() = Some(target);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        // Wakes whoever waits for the next to come.
        drop(TcpStream::connect(self.address));
    }
}

impl Inner {
    /// Two directions, each with a thread that reads and one that writes.
    fn pass(self: Arc<Self>, inner: TcpStream, outer: TcpStream, to: usize) -> Result<()> {
        inner.set_nodelay(true)?;
        outer.set_nodelay(true)?;
        let from = self.dialler_of(&inner)?;
        if from.is_none() {
            self.strangers.fetch_add(1, Ordering::Relaxed);
        }
        let delay = from.map(|from| self.one_way[from][to]).unwrap_or_default();
        self.carry(inner.try_clone()?, outer.try_clone()?, delay);
        self.carry(outer, inner, delay);
        Ok(())
    }

    fn carry(self: &Arc<Self>, from: TcpStream, to: TcpStream, delay: Duration) {
        let (sender, receiver) = sync_channel(PIECES_ON_THE_WAY);
        let (reading, writing) = (Arc::clone(self), Arc::clone(self));
        thread::spawn(move || reading.read(from, &sender, delay));
        thread::spawn(move || writing.write(to, &receiver));
    }

    fn read(&self, mut from: TcpStream, sender: &SyncSender<(u64, Vec<u8>)>, delay: Duration) {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let has_begun = self.has_begun.load(Ordering::Relaxed);
            let delay = if has_begun { delay } else { Duration::ZERO };
            let delay_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
            let due_ns = self.clock.monotonic_ns().saturating_add(delay_ns);
            // An empty piece says that there is no more.
            if sender.send((due_ns, buffer[..count].to_vec())).is_err() || count == 0 {
                return;
            }
        }
    }

    fn write(&self, mut to: TcpStream, receiver: &Receiver<(u64, Vec<u8>)>) {
        while let Ok((due_ns, piece)) = receiver.recv() {
            let wait_ns = due_ns.saturating_sub(self.clock.monotonic_ns());
            if wait_ns > 0 {
                thread::sleep(Duration::from_nanos(wait_ns));
            }
            if piece.is_empty() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if to.write_all(&piece).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// The region of whoever has the other end.
    fn dialler_of(&self, stream: &TcpStream) -> Result<Option<usize>> {
        let (own, other) = (stream.local_addr()?, stream.peer_addr()?);
        let sockets = procfs::net::tcp()?;
        let is_theirs = |socket: &&procfs::net::TcpNetEntry| {
            (socket.local_address, socket.remote_address) == (other, own)
        };
        let Some(inode) = sockets.iter().find(is_theirs).map(|socket| socket.inode) else {
            return Ok(None);
        };
        let has_it = |pid: i32| {
            let open = Process::new(pid).and_then(|process| process.fd());
            open.is_ok_and(|mut open| {
                open.any(|it| it.is_ok_and(|it| it.target == FDTarget::Socket(inode)))
            })
        };
        let regions = self.regions.lock();
        Ok(regions.iter().find(|(pid, _)| has_it(**pid)).map(|(_, region)| *region))
    }
}

const PIECES_ON_THE_WAY: usize = 1_024;
const PIECE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_late_and_whole_and_in_order() {
        let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut delays = [[Duration::ZERO; REGIONS]; REGIONS];
        delays[0][1] = Duration::from_millis(20);
        let delays = Delays::new(delays);
        delays.lives_in(i32::try_from(std::process::id()).unwrap(), 0);
        delays.begin();
        let door = delays.open_door(1).unwrap();
        door.lead_to(behind.local_addr().unwrap());
        let echo = thread::spawn(move || {
            let (mut stream, _) = behind.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        });
        let clock = RealClock::new();
        let mut stream = TcpStream::connect(door.address()).unwrap();
        for part in ["one ", "two ", "three"] {
            stream.write_all(part.as_bytes()).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "one two three");
        // Never early; how late is the machine's affair.
        assert!(clock.monotonic_ns() >= 40_000_000);
        assert_eq!(delays.strangers(), 0);
        echo.join().unwrap();
    }
}
