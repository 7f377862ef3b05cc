//! Which process is at the other end of a connection within this machine.
//!
//! `/proc/net/tcp` names the inode of every socket by its two addresses, `/proc/PID/fd` the sockets
//! of a process. Both are read for the few processes that are nodes.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The node whose process has the socket that connected `from` its own address `to` ours.
pub(super) fn has_dialled(
    from: SocketAddr,
    to: SocketAddr,
    processes: &BTreeMap<u32, u64>,
) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, from, to)?;
    let wanted = format!("socket:[{inode}]");
    let has_it = |pid: u32| {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        entries.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        })
    };
    processes.iter().find(|(pid, _)| has_it(**pid)).map(|(_, node)| *node)
}

/// The inode in the table of the socket with these two addresses, own one first.
fn inode_of(table: &str, own: SocketAddr, other: SocketAddr) -> Option<u64> {
    let (own, other) = (kernel_text(own)?, kernel_text(other)?);
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some(&*own) && words.next() == Some(&*other);
        // State, queues, timer, retransmissions, user, timeout, then the inode.
        if is_it { words.nth(6)?.parse().ok() } else { None }
    })
}

/// An address as the kernel writes it: the four bytes as one number of this machine, then the port.
fn kernel_text(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_found_and_no_other() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let dialled = std::net::TcpStream::connect(to).unwrap();
        let from = dialled.local_addr().unwrap();
        let own = std::process::id();
        let table = |pid| BTreeMap::from([(pid, 7_u64)]);
        assert_eq!(has_dialled(from, to, &table(own)), Some(7));
        assert_eq!(has_dialled(from, to, &table(1)), None);
        drop(dialled);
        assert_eq!(has_dialled("127.0.0.1:1".parse().unwrap(), to, &table(own)), None);
    }
}
