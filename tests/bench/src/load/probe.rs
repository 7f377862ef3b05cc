//! What the servers have used so far: CPU, bytes written, memory, and syncs of their logs.
//!
//! All of it is read from outside, from `/proc` and from what each server counts itself, and the
//! same way for every system. The load generator's own CPU is read beside, since it shares the
//! cores.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use procfs::process::{Process, all_processes};

use super::http::{Http, Tls};
use crate::machine::Device;

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// The servers' processes, one for each node.
    pub(crate) pids: Vec<i32>,
    /// Whether each has processes below it that count as its own.
    pub(crate) has_children: bool,
    /// Where each node counts syncs of its log; none where none does.
    pub(crate) counters: Vec<SocketAddr>,
    /// What to trust there.
    pub(crate) tls: Option<Tls>,
    /// The name of that counter.
    pub(crate) sync_counter: &'static str,
    /// Where all of them store.
    pub(crate) device: Device,
}

/// What was used until now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU-seconds of all servers, user and system.
    pub(crate) server_cpu_s: f64,
    /// CPU-seconds of this process.
    pub(crate) own_cpu_s: f64,
    /// Bytes that the device was given, by the servers and by the file system for them.
    pub(crate) written_bytes: u64,
    /// Resident memory of each node.
    pub(crate) resident_bytes: Vec<u64>,
}

impl Probe {
    /// Reads `/proc`.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage {
            own_cpu_s: cpu_s(&Process::myself()?, false)?,
            written_bytes: self.device.written_bytes()?,
            ..Usage::default()
        };
        for pid in &self.pids {
            let server = Process::new(*pid).with_context(|| format!("process {pid} has ended"))?;
            usage.server_cpu_s += cpu_s(&server, self.has_children)?;
            let mut memory = Memory::of(&server)?;
            for child in if self.has_children { children_of(*pid)? } else { Vec::new() } {
                // One that has just ended is in its parent's times already.
                usage.server_cpu_s += cpu_s(&child, false).unwrap_or(0.0);
                memory = memory.beside(Memory::of(&child).unwrap_or_default());
            }
            usage.resident_bytes.push(memory.own + memory.shared);
        }
        Ok(usage)
    }

    /// Syncs of each node's log since it started.
    pub(crate) async fn syncs(&self) -> Result<Vec<u64>> {
        let mut syncs = Vec::new();
        for address in &self.counters {
            let text = metrics(*address, self.tls.clone()).await?;
            syncs.push(counter(&text, self.sync_counter)? as u64);
        }
        Ok(syncs)
    }
}

/// What a server counts, in the text format of Prometheus.
pub(crate) async fn metrics(address: SocketAddr, tls: Option<Tls>) -> Result<String> {
    let mut http = Http::connect(address, tls).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let body = http.ask_ok("GET /metrics", request.as_bytes()).await?;
    Ok(String::from_utf8(body.to_vec())?)
}

/// A sample without labels.
pub(crate) fn counter(text: &str, name: &str) -> Result<f64> {
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let number = sample.and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.with_context(|| format!("no {name} among the metrics"))
}

fn cpu_s(process: &Process, with_ended_children: bool) -> Result<f64> {
    let stat = process.stat()?;
    let mut ticks = stat.utime + stat.stime;
    if with_ended_children {
        ticks += u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
    }
    Ok(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// Resident bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Memory {
    own: u64,
    shared: u64,
}

impl Memory {
    fn of(process: &Process) -> Result<Self> {
        let pages = process.statm()?;
        let own = pages.resident.saturating_sub(pages.shared) * procfs::page_size();
        Ok(Self { own, shared: pages.shared * procfs::page_size() })
    }

    /// Of two processes: what they share counts once, as far as one of them has touched it.
    fn beside(self, other: Self) -> Self {
        Self { own: self.own + other.own, shared: self.shared.max(other.shared) }
    }
}

fn children_of(pid: i32) -> Result<Vec<Process>> {
    let is_child = |process: &Process| process.stat().is_ok_and(|stat| stat.ppid == pid);
    Ok(all_processes()?.flatten().filter(is_child).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "# TYPE a counter\na_total 7\na{b=\"c\"} 1\na 12.5 1700000000\n";
        assert!((counter(text, "a").unwrap() - 12.5).abs() < f64::EPSILON);
        assert!((counter(text, "a_total").unwrap() - 7.0).abs() < f64::EPSILON);
        assert!(counter(text, "total").is_err());
    }

    #[test]
    fn what_processes_share_counts_once() {
        let one = Memory { own: 1, shared: 10 };
        let other = Memory { own: 2, shared: 7 };
        assert_eq!(one.beside(other), Memory { own: 3, shared: 10 });
    }

    #[test]
    fn a_process_that_runs_has_used_something() {
        let own = i32::try_from(std::process::id()).unwrap();
        let probe = Probe {
            pids: vec![own],
            has_children: false,
            counters: Vec::new(),
            tls: None,
            sync_counter: "",
            device: Device::below(&std::env::temp_dir()).unwrap(),
        };
        let usage = probe.usage().unwrap();
        assert_eq!(usage.resident_bytes.len(), 1);
        assert!(usage.resident_bytes[0] > 0);
    }
}
