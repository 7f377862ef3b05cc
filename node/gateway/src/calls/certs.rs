//! Certificates of the nodes: how they stand, new ones, and another authority for all.
//!
//! Another authority comes in steps, each of which is a row of the ledger, so that the same call,
//! through whatever node and after whatever failure, goes on where things are:
//!
//! ```text
//! new authority stored, trusted ──▶ every node believes it ──▶ it issues, nodes renew ──▶
//!   every node shows certificates of it ──▶ the former one is removed (`finish`)
//! ```
//!
//! One call goes as far as nodes allow at the time and says whom the next step waits for. Until the
//! former one is removed both are believed, and what comes from the new one carries its
//! certificate by the former along; so nobody, client or node, finds the other unknown.

use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use lease::Ledger;
use lease::command::Command;
use lease::ids::NodeId;
use lease::operate::{AnchorState, TrustAnchor};
use lease::outcome::Outcome;
use protocol::cloud::admin::{
    AuthorityState, AuthorityView, CertificateStatus, CertificateView, NodeCertificates, NodeNote,
    RotateCertificatesRequest, RotateCertificatesResponse, RotationStep,
};
use protocol::cloud::problem::Problem;
use protocol::wire::UtcTime;

use super::facts::{self, Answers};
use crate::call::Call;
use crate::control::{CertificateFacts, NodeFacts, NodeOrder, OrderError};
use crate::failure::Failure;
use crate::keys::VaultError;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// For an order to a node: keys are made for it, which takes longer than any other call may.
const ORDER_TIME: Duration = Duration::from_secs(15);
/// The secret that holds the authority's private key.
const CA_KEY: &str = "ca-key";

/// `GET /admin/certs`
pub(crate) async fn status(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let anchors = anchors(&*shared.read(call).await?);
    let answers = facts::of_members(shared).await;
    let now_s = shared.context.cluster.displayed_civil_ms().div_euclid(1_000);
    let authorities = anchors.iter().map(|anchor| authority_view(anchor, &answers)).collect();
    let nodes = answers
        .iter()
        .map(|(node, facts)| NodeCertificates {
            node_id: *node,
            reachable: facts.is_some(),
            certificates: facts
                .iter()
                .flat_map(|facts| &facts.certificates)
                .map(|certificate| certificate_view(certificate, now_s))
                .collect(),
        })
        .collect();
    Ok(Reply::ok(&CertificateStatus { authorities, nodes }))
}

/// `POST /admin/certs/rotate`
pub(crate) async fn rotate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: RotateCertificatesRequest = call.json_or_default()?;
    if !request.ca && (request.finish || request.force) {
        return Err(Failure::field("ca", "finish and force go with it"));
    }
    if request.ca && request.node_id.is_some() {
        return Err(Failure::field("node_id", "an authority is replaced for all nodes"));
    }
    shared.catch_up(call.deadline).await?;
    let response = if request.ca {
        rotate_authority(shared, call, &request).await?
    } else {
        renew(shared, request.node_id).await?
    };
    Ok(Reply::ok(&response))
}

/// Tells nodes to make themselves new certificates.
async fn renew(
    shared: &Shared,
    only: Option<NodeId>,
) -> Result<RotateCertificatesResponse, Failure> {
    let nodes = members(shared, only)?;
    let told = nodes.iter().map(|node| tell(shared, *node, NodeOrder::RenewCertificates));
    let told: Vec<Result<String, OrderError>> = join_all(told).await;
    let failed: Vec<NodeNote> = nodes
        .iter()
        .zip(&told)
        .filter_map(|(node, told)| {
            let error = told.as_ref().err()?;
            Some(NodeNote { node_id: *node, note: error.to_string() })
        })
        .collect();
    let renewed = nodes.len() - failed.len();
    Ok(RotateCertificatesResponse {
        step: RotationStep::Renewed,
        done: failed.is_empty(),
        message: format!("{renewed} of {} nodes use new certificates", nodes.len()),
        waiting: failed,
        left_out: Vec::new(),
    })
}

/// Gives a node an order, whichever it is.
pub(super) async fn tell(
    shared: &Shared,
    node: NodeId,
    order: NodeOrder,
) -> Result<String, OrderError> {
    if node == shared.config.node {
        shared.context.control.perform(order, ORDER_TIME).await
    } else {
        shared.context.peers.order(node, order, ORDER_TIME).await
    }
}

/// The members, or the one that is named.
pub(super) fn members(shared: &Shared, only: Option<NodeId>) -> Result<Vec<NodeId>, Failure> {
    let ledger = shared.context.cluster.ledger();
    let mut nodes: Vec<NodeId> = ledger.members().map(|member| member.node).collect();
    if let Some(only) = only {
        nodes.retain(|node| *node == only);
        if nodes.is_empty() {
            return Err(Problem::new(404, "unknown_member", "No such member.").into());
        }
    }
    Ok(nodes)
}

/// The next steps towards another authority.
async fn rotate_authority(
    shared: &Shared,
    call: &Call,
    request: &RotateCertificatesRequest,
) -> Result<RotateCertificatesResponse, Failure> {
    let rows = anchors(&shared.context.cluster.ledger());
    let of = |state| rows.iter().find(|anchor| anchor.state == state);
    let Some(issuing) = of(AnchorState::Issuing) else {
        return Err(Problem::new(409, "no_authority", "The cluster has no authority of its own.")
            .detail("certificates come from elsewhere: replace the files on each node")
            .into());
    };
    if let Some(former) = of(AnchorState::Retiring) {
        return retire(shared, call, request, former, issuing).await;
    }
    match of(AnchorState::Trusted) {
        Some(next) if holds_key(shared, next)? => put_in_charge(shared, call, request, next).await,
        Some(stray) => {
            // Two began at once, and the key of the other was stored.
            let fingerprint = stray.fingerprint;
            submit(shared, call, vec![Command::RemoveTrustAnchor { fingerprint }]).await?;
            let message = "an authority without a key is gone; ask again";
            Ok(answer(RotationStep::Trusted, false, message))
        }
        None if request.finish => Ok(answer(
            RotationStep::Finished,
            true,
            "one authority is believed, and every certificate comes from it",
        )),
        None => begin(shared, call, issuing, rows.len()).await,
    }
}

/// Stores a new authority, and its key, in one entry.
async fn begin(
    shared: &Shared,
    call: &Call,
    issuing: &TrustAnchor,
    known: usize,
) -> Result<RotateCertificatesResponse, Failure> {
    let keys = shared.serving_keys()?;
    let new = {
        let ledger = shared.context.cluster.ledger();
        let key = ledger.secret(CA_KEY).ok_or_else(no_key)?;
        let number = key.version.saturating_add(u32::try_from(known).unwrap_or(1));
        let now_ms = shared.context.cluster.displayed_civil_ms();
        keys.vault
            .succeed_authority(key, &issuing.certificate_der, number, now_ms)
            .map_err(vault_failure)?
    };
    let anchor = Command::PutTrustAnchor(Box::new(new.anchor));
    submit(shared, call, vec![Command::PutSecret(new.key), anchor]).await?;
    Ok(answer(RotationStep::Trusted, false, "a new authority is stored; nodes learn to believe it"))
}

/// Lets the new authority issue, once every node believes it.
async fn put_in_charge(
    shared: &Shared,
    call: &Call,
    request: &RotateCertificatesRequest,
    next: &TrustAnchor,
) -> Result<RotateCertificatesResponse, Failure> {
    let answers = facts::of_members(shared).await;
    let wanted = hex(&next.fingerprint);
    let believes = |facts: &NodeFacts| facts.anchors.contains(&wanted);
    let (waiting, left_out) =
        sort_out(&answers, request.force, believes, "does not believe the new authority yet");
    if !waiting.is_empty() {
        let message = "the new authority issues when every node believes it";
        let answer = answer(RotationStep::Trusted, false, message);
        return Ok(RotateCertificatesResponse { waiting, left_out, ..answer });
    }
    let anchor = TrustAnchor { state: AnchorState::Issuing, ..next.clone() };
    submit(shared, call, vec![Command::PutTrustAnchor(Box::new(anchor))]).await?;
    let message = "certificates come from the new authority; nodes replace theirs";
    Ok(RotateCertificatesResponse { left_out, ..answer(RotationStep::Issuing, false, message) })
}

/// Removes the former authority, once nobody shows a certificate of it.
async fn retire(
    shared: &Shared,
    call: &Call,
    request: &RotateCertificatesRequest,
    former: &TrustAnchor,
    issuing: &TrustAnchor,
) -> Result<RotateCertificatesResponse, Failure> {
    let answers = facts::of_members(shared).await;
    let (old, new) = (hex(&former.fingerprint), hex(&issuing.fingerprint));
    let replaced = |facts: &NodeFacts| {
        facts.anchors.contains(&new) && facts.certificates.iter().all(|it| it.issuer != old)
    };
    let why = "still shows a certificate of the former authority";
    let (waiting, mut left_out) = sort_out(&answers, request.force, replaced, why);
    if !waiting.is_empty() {
        let message = "nodes replace their certificates";
        let answer = answer(RotationStep::Issuing, false, message);
        return Ok(RotateCertificatesResponse { waiting, left_out, ..answer });
    }
    if !request.finish {
        let message = "every node has certificates of the new authority; give clients the new \
                       ca.pem, then end trust in the former one: leasehold certs rotate --ca \
                       --finish";
        let answer = answer(RotationStep::Replaced, true, message);
        return Ok(RotateCertificatesResponse { left_out, ..answer });
    }
    for NodeNote { node_id, note } in &mut left_out {
        *note = format!(
            "does not answer, and cannot come back as it is: its certificates are of the former \
             authority; run there: leasehold member replace {node_id} --config <its configuration>"
        );
    }
    let fingerprint = former.fingerprint;
    submit(shared, call, vec![Command::RemoveTrustAnchor { fingerprint }]).await?;
    let message = "the former authority is believed no more";
    Ok(RotateCertificatesResponse { left_out, ..answer(RotationStep::Finished, true, message) })
}

/// Whom a step waits for, and whom it leaves out: with `force`, nodes that do not answer.
fn sort_out(
    answers: &Answers,
    force: bool,
    is_ready: impl Fn(&NodeFacts) -> bool,
    why_not: &str,
) -> (Vec<NodeNote>, Vec<NodeNote>) {
    let (mut waiting, mut left_out) = (Vec::new(), Vec::new());
    for (node, facts) in answers {
        match facts {
            Some(facts) if is_ready(facts) => {}
            Some(_) => waiting.push(NodeNote { node_id: *node, note: why_not.to_owned() }),
            None => {
                let note = "does not answer".to_owned();
                let list = if force { &mut left_out } else { &mut waiting };
                list.push(NodeNote { node_id: *node, note });
            }
        }
    }
    (waiting, left_out)
}

/// Whether the stored key is that of an authority.
fn holds_key(shared: &Shared, anchor: &TrustAnchor) -> Result<bool, Failure> {
    let keys = shared.serving_keys()?;
    let ledger = shared.context.cluster.ledger();
    let key = ledger.secret(CA_KEY).ok_or_else(no_key)?;
    Ok(keys.vault.is_authority_key(key, &anchor.certificate_der))
}

/// Has commands decided in one entry; the first refusal is the answer.
async fn submit(shared: &Shared, call: &Call, commands: Vec<Command>) -> Result<(), Failure> {
    let envelopes = commands
        .into_iter()
        .map(|command| call.envelope(None, command))
        .collect::<Result<Vec<_>, _>>()?;
    let left = shared.left(call.deadline);
    let submitted = shared.context.cluster.submit(envelopes, left).await?;
    let refused = submitted.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal),
        _ => None,
    });
    match refused {
        Some(refusal) => Err(admin_failure(refusal)),
        None => shared.seen(call, submitted.index).await,
    }
}

fn answer(step: RotationStep, done: bool, message: &str) -> RotateCertificatesResponse {
    RotateCertificatesResponse {
        step,
        done,
        message: message.to_owned(),
        waiting: Vec::new(),
        left_out: Vec::new(),
    }
}

fn anchors(ledger: &Ledger) -> Vec<TrustAnchor> {
    ledger.trust_anchors().cloned().collect()
}

fn authority_view(anchor: &TrustAnchor, answers: &Answers) -> AuthorityView {
    let fingerprint = hex(&anchor.fingerprint);
    let nodes = |holds: &dyn Fn(&NodeFacts) -> bool| {
        let holding = answers.iter().filter(|(_, facts)| facts.as_ref().is_some_and(holds));
        holding.map(|(node, _)| *node).collect::<Vec<_>>()
    };
    AuthorityView {
        state: match anchor.state {
            AnchorState::Trusted => AuthorityState::Trusted,
            AnchorState::Issuing => AuthorityState::Issuing,
            AnchorState::Retiring => AuthorityState::Retiring,
        },
        believed_by: nodes(&|facts| facts.anchors.contains(&fingerprint)),
        in_use_by: nodes(&|facts| facts.certificates.iter().any(|it| it.issuer == fingerprint)),
        fingerprint,
    }
}

fn certificate_view(facts: &CertificateFacts, now_s: i64) -> CertificateView {
    let at = |unix_s: i64| UtcTime::from_unix_ms(unix_s.saturating_mul(1_000));
    CertificateView {
        purpose: facts.purpose.clone(),
        fingerprint: facts.fingerprint.clone(),
        names: facts.names.clone(),
        issuer: Some(facts.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        not_before: at(facts.not_before_s),
        not_after: at(facts.not_after_s),
        days_left: facts.not_after_s.saturating_sub(now_s).div_euclid(24 * 60 * 60),
        managed: facts.managed,
        renews_at: facts.managed.then(|| at(facts.renew_at_s)),
    }
}

fn hex(fingerprint: &[u8; 32]) -> String {
    HEXLOWER.encode(fingerprint)
}

fn no_key() -> Failure {
    Problem::new(409, "no_authority", "The key of the authority is not in the cluster.").into()
}

fn vault_failure(error: VaultError) -> Failure {
    tracing::error!(%error, "the authority could not be replaced");
    Failure::internal("the authority could not be replaced")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_waits_for_every_node_unless_it_is_told_to_leave_the_silent_out() {
        let facts = |anchor: &str| {
            Some(NodeFacts { anchors: vec![anchor.to_owned()], ..NodeFacts::default() })
        };
        let ready = |facts: &NodeFacts| facts.anchors == ["new"];
        let numbers = |notes: &[NodeNote]| notes.iter().map(|it| it.node_id).collect::<Vec<_>>();
        type Row = ([Option<NodeFacts>; 3], bool, &'static [u64], &'static [u64]);
        let table: [Row; 5] = [
            ([facts("new"), facts("new"), facts("new")], false, &[], &[]),
            ([facts("new"), facts("old"), facts("new")], false, &[2], &[]),
            ([facts("new"), facts("old"), facts("new")], true, &[2], &[]),
            ([facts("new"), None, facts("old")], false, &[2, 3], &[]),
            ([facts("new"), None, facts("old")], true, &[3], &[2]),
        ];
        for (answers, force, waiting, left_out) in table {
            let answers: Answers = (1..).zip(answers).collect();
            let sorted = sort_out(&answers, force, ready, "not yet");
            assert_eq!((numbers(&sorted.0), numbers(&sorted.1)), (waiting.into(), left_out.into()));
        }
    }

    #[test]
    fn days_left_are_whole_and_may_be_negative() {
        let facts = CertificateFacts { not_after_s: 864_000, ..CertificateFacts::default() };
        for (now_s, days) in [(0, 10), (1, 9), (864_000, 0), (864_001, -1)] {
            assert_eq!(certificate_view(&facts, now_s).days_left, days);
        }
    }
}
