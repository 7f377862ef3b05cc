//! A new node comes in by its join token: its row in the ledger, the data key wrapped to it, its
//! certificates.
//!
//! Everything that can be refused is refused before the token is used. The same join again, from
//! the same data directory, is the same: a node whose answer was lost asks again.

use http::HeaderValue;
use lease::Ledger;
use lease::command::{Command, Member};
use lease::entry::{Actor, Envelope};
use lease::ids::NodeId;
use lease::operate::JoinMember;
use lease::outcome::{Outcome, RefusalCode};
use protocol::cloud::admin::{JoinPeer, JoinRequest, JoinResponse};
use protocol::cloud::problem::Problem;

use super::authority;
use crate::authority::CertificateSubject;
use crate::call::{Call, Principal};
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `POST /cluster/join`
pub(crate) async fn join(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let Principal::Joiner { node, token_mac } = call.principal else {
        return Err(Failure::internal("a join without a ticket"));
    };
    let request: JoinRequest = call.json()?;
    let member = member_of(node, &request)?;
    check_clock(shared, &request)?;
    let issue = |csr: &str, subject| {
        shared.context.authority.issue(csr, subject).map_err(|error| authority(&error))
    };
    let peer_certificate = issue(&request.csr_peer, CertificateSubject::Peer(node))?;
    let host = host_of(&member.gateway_url)?;
    let gateway_certificate = match &request.csr_gateway {
        Some(csr) => Some(issue(csr, CertificateSubject::Gateway { host: &host })?),
        None => None,
    };
    let mut outcome = let_in(shared, call, token_mac, &member).await?;
    if let Outcome::Refused(refusal) = &outcome
        && refusal.code == RefusalCode::VersionConflict
    {
        // The data key was replaced, or a former one retired, in between.
        outcome = let_in(shared, call, token_mac, &member).await?;
    }
    match outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) => return Err(refused(refusal.code, node, &refusal)),
        _ => return Err(Failure::internal("a join had the outcome of another command")),
    }
    let ca_certificates = anchors_pem(shared)?;
    let peers = shared.context.cluster.status().peers;
    let members = peers
        .into_iter()
        .filter(|peer| peer.id != node)
        .map(|peer| JoinPeer { node_id: peer.id, peer_address: peer.address })
        .collect();
    let identity = {
        let ledger = shared.context.cluster.ledger();
        identity_of(&ledger)?
    };
    Ok(Reply::ok(&JoinResponse {
        cluster_id: identity.0,
        node_id: node,
        client_id: identity.1,
        org_domain: identity.2,
        epoch: identity.3,
        peer_certificate,
        gateway_certificate,
        ca_certificates,
        members,
    }))
}

/// Has the ledger decide, with the data key in the versions that are in use now.
async fn let_in(
    shared: &Shared,
    call: &Call,
    token_mac: [u8; 32],
    member: &Member,
) -> Result<Outcome, Failure> {
    shared.catch_up(call.deadline).await?;
    let keys = shared.current_keys(call.deadline).await?;
    let mut wraps = keys
        .vault
        .wrap_to(member.node, member.kek_public)
        .map_err(|error| Failure::field("kek_public", &error.to_string()))?;
    let in_use = shared.context.cluster.ledger().data_key_versions_in_use();
    // The vault may still hold one that was retired a moment ago.
    wraps.retain(|wrap| in_use.contains(&wrap.version));
    let join = JoinMember { token_mac, member: member.clone(), wraps };
    let envelope = Envelope {
        actor: Actor::Node(shared.config.node),
        request: None,
        trace: call.trace,
        cause: None,
        command: Command::JoinMember(Box::new(join)),
    };
    let left = shared.left(call.deadline);
    let submitted = shared.context.cluster.submit(vec![envelope], left).await?;
    shared.seen(call, submitted.index).await?;
    let outcome = submitted.outcomes.into_iter().next();
    outcome.ok_or_else(|| Failure::internal("a join did not get an outcome"))
}

/// `GET /cluster/ca.pem`
pub(crate) async fn authorities(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let pem = anchors_pem(shared)?;
    let content_type = HeaderValue::from_static("application/x-pem-file");
    Ok(Reply::new(http::StatusCode::OK, content_type, pem.into_bytes()))
}

fn anchors_pem(shared: &Shared) -> Result<String, Failure> {
    let anchors = shared.context.authority.anchors().map_err(|error| authority(&error))?;
    Ok(anchors.iter().map(|der| pem_of(der)).collect())
}

fn pem_of(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn identity_of(ledger: &Ledger) -> Result<(String, String, String, u32), Failure> {
    let cluster =
        ledger.cluster().ok_or_else(|| Failure::internal("a cluster without identity"))?;
    Ok((
        cluster.cluster_id.to_string(),
        cluster.client_id.to_string(),
        cluster.org_domain.to_string(),
        cluster.epoch,
    ))
}

fn refused(code: RefusalCode, node: NodeId, refusal: &lease::outcome::Refusal) -> Failure {
    match code {
        RefusalCode::NodeIdTaken => Problem::new(409, "node_id_taken", "The id was used before.")
            .detail(format!(
                "node {node} has joined with another data directory; ask for a new token: \
                 leasehold member add"
            ))
            .into(),
        _ => admin_failure(refusal),
    }
}

fn member_of(node: NodeId, request: &JoinRequest) -> Result<Member, Failure> {
    let kek_public = hex::<32>("kek_public", &request.kek_public)?;
    let incarnation = hex::<8>("directory_incarnation", &request.directory_incarnation)?;
    if !is_host_port(&request.peer_address) {
        return Err(Failure::field("peer_address", "want host:port"));
    }
    host_of(&request.gateway_url)?;
    for (field, label) in [("region", &request.region), ("zone", &request.zone)] {
        if label.chars().count() > 64 || label.chars().any(char::is_control) {
            return Err(Failure::field(field, "want at most 64 printable characters"));
        }
    }
    Ok(Member {
        node,
        peer_address: request.peer_address.as_str().into(),
        gateway_url: request.gateway_url.as_str().into(),
        region: request.region.as_str().into(),
        zone: request.zone.as_str().into(),
        directory_incarnation: u64::from_be_bytes(incarnation),
        kek_public,
    })
}

fn hex<const N: usize>(field: &str, text: &str) -> Result<[u8; N], Failure> {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Failure::field(field, &format!("want {} hex digits", 2 * N)))
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && text.len() <= 256
            && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// The host of a gateway's URL, without the brackets of an IPv6 address.
fn host_of(url: &str) -> Result<String, Failure> {
    let bad = || Failure::field("gateway_url", "want https://host:port");
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let is_plain = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    if uri.scheme_str() != Some("https") || !is_plain || url.ends_with('/') || url.len() > 256 {
        return Err(bad());
    }
    Ok(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// A clock that is far off would make certificates invalid and votes useless.
fn check_clock(shared: &Shared, request: &JoinRequest) -> Result<(), Failure> {
    let ours_ms = shared.context.cluster.displayed_civil_ms();
    let ahead_ms = request.clock.unix_ms.saturating_sub(ours_ms);
    if ahead_ms.unsigned_abs() <= MAX_CLOCK_OFFSET_MS {
        return Ok(());
    }
    let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
    Err(Problem::new(409, "clock_differs", "The node's clock differs from the cluster's.")
        .detail(format!(
            "its clock is {} seconds {direction} the cluster's; set it and join again, the token \
             is still good",
            ahead_ms.unsigned_abs() / 1_000
        ))
        .into())
}

/// Beyond this, the leader takes no civil time from a voter's clock.
const MAX_CLOCK_OFFSET_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_they_must_be() {
        for (text, fits) in [
            ("a:7411", true),
            ("[::1]:7411", true),
            ("a", false),
            ("a:0", false),
            (":7411", false),
            ("a b:7411", false),
        ] {
            assert_eq!(is_host_port(text), fits, "{text}");
        }
        for (url, host) in [
            ("https://a.example:7401", Some("a.example")),
            ("https://[::1]:7401", Some("::1")),
            ("https://10.0.0.1:7401", Some("10.0.0.1")),
            ("http://a:7401", None),
            ("https://a:7401/", None),
            ("https://a:7401/x", None),
            ("a:7401", None),
        ] {
            assert_eq!(host_of(url).ok().as_deref(), host, "{url}");
        }
    }

    #[test]
    fn a_certificate_is_written_in_lines_of_64() {
        let pem = pem_of(&[7; 100]);
        let longest = pem.lines().map(str::len).max();
        assert_eq!(longest, Some(64));
        assert!(pem.ends_with("-----END CERTIFICATE-----\n"));
    }
}
