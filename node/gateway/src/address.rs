//! Where a call comes from: the peer of the connection, or what a trusted proxy says of it.
//!
//! `X-Forwarded-For` is a list that every hop adds to at its end, and that a client can begin with
//! anything. It is read from the end, and only as far as the hops are proxies that an operator
//! named: the first address that is not one is the caller's. Without named proxies the header
//! counts for nothing.

use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use thiserror::Error;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Hops that are looked at: no chain of proxies is longer, and a header may be.
const MAX_HOPS: usize = 32;

/// The other end of the connection that a request came over; an extension of the request, put
/// there by the listener.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);

/// Proxies that an operator trusts: an address, or a network in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyNetwork(IpNet);

/// A text that names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an IP address and not a network such as 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for ProxyNetwork {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let text = text.trim();
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.to_canonical().into())),
            Err(_) => text.parse::<IpNet>().map(Self).map_err(|_| NotANetwork),
        }
    }
}

impl ProxyNetwork {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// The caller's address. A hop that cannot be read ends the walk: whatever is before it was
/// written by somebody whom the last proxy did not name.
pub(crate) fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[ProxyNetwork]) -> IpAddr {
    let is_proxy = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut caller = peer.to_canonical();
    if !is_proxy(caller) {
        return caller;
    }
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("")).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(MAX_HOPS) {
        let Some(address) = read_hop(hop.trim()) else { break };
        caller = address;
        if !is_proxy(caller) {
            break;
        }
    }
    caller
}

/// An address, with or without a port.
fn read_hop(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse()
        .or_else(|_| with_port())
        .ok()
        .or_else(bracketed)
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_named_proxies_are_believed_and_only_about_their_own_peer() {
        let trusted: Vec<ProxyNetwork> =
            ["10.0.0.0/8", "192.0.2.7", "fd00::/8"].iter().map(|it| it.parse().unwrap()).collect();
        let table: [(&str, &[&str], &str); 13] = [
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1, 192.0.2.7"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1", "10.9.9.9"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1, nonsense"], "10.1.2.3"),
            ("10.1.2.3", &["nonsense, 10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", &[""], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1:4711"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::5]:443"], "2001:db8::5"),
            ("fd00::1", &["[2001:db8::5]"], "2001:db8::5"),
        ];
        for (peer, lines, want) in table {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            let got = caller(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(got, want.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
            let alone = caller(peer.parse().unwrap(), &headers, &[]);
            assert_eq!(alone, peer.parse::<IpAddr>().unwrap().to_canonical(), "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_network_is_an_address_or_in_cidr_form() {
        for (text, is_one) in [
            ("10.0.0.0/8", true),
            ("192.0.2.1", true),
            (" ::1 ", true),
            ("fd00::/8", true),
            ("10.0.0.0/33", false),
            ("proxy.example.com", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<ProxyNetwork>().is_ok(), is_one, "{text}");
        }
    }
}
