//! Addresses at which nodes really listen.
//!
//! Below the ports that the system gives to those who dial, so that no connection takes the port of
//! a node that is down for a moment; and reserved by holding the first one of a block, so that two
//! rigs on one machine do not take each other's.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};

/// A block of ports.
#[derive(Debug)]
pub(super) struct Ports {
    _held: TcpListener,
    next: u16,
    last: u16,
}

impl Ports {
    /// Finds a block where nobody listens.
    pub(super) fn reserve() -> Result<Self> {
        (0..BLOCKS)
            .map(|block| FIRST + block * PORTS_PER_BLOCK)
            .find_map(|first| {
                let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
                let last = first + PORTS_PER_BLOCK - 1;
                Some(Self { _held: held, next: first + 1, last })
            })
            .context("no free block of ports between 3000 and 11000: end what uses them")
    }

    /// The next address where nobody listens.
    pub(super) fn next(&mut self) -> Result<SocketAddr> {
        while self.next <= self.last {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next += 1;
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        anyhow::bail!("this run has used all its ports")
    }
}

const FIRST: u16 = 3_000;
const PORTS_PER_BLOCK: u16 = 400;
const BLOCKS: u16 = 20;
