//! Members: list, invite, promote, remove.
//!
//! The ledger says who may be a member and consensus who is one; the leader's node carries the one
//! over to the other. A removal goes the other way round: first out of consensus, so that nobody
//! refuses a node that still counts, then out of the ledger.
//!
//! What it leaves to others: how a new node comes in (`join`), whether the voters that are left
//! are enough (`arithmetic`), handing over and stopping (`hand_over`).

pub(crate) mod arithmetic;
pub(crate) mod hand_over;
pub(crate) mod join;

use std::time::Duration;

use http::StatusCode;
use lease::Ledger;
use lease::command::{Command, Member};
use lease::ids::NodeId;
use lease::operate::{AddTicket, RemoveMember};
use lease::outcome::Outcome;
use protocol::cloud::admin::{
    AddMemberRequest, AddMemberResponse, DEFAULT_TICKET_MINUTES, FormerView, MAX_TICKET_MINUTES,
    MemberList, MemberPart, MemberView, RemoveMemberQuery, TicketView,
};
use protocol::cloud::problem::Problem;
use protocol::join_token::{JoinToken, MAX_GATEWAYS};
use protocol::secret::Secret;
use protocol::wire::UtcTime;
use raft::{Change, ChangeError, PeerStatus};
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::authority::{AuthorityError, pinned_anchor};
use crate::call::Call;
use crate::credentials::join_token_mac;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// The query's parameters of a removal, for the OpenAPI document.
pub(crate) fn removal_parameters() -> Vec<Parameter> {
    RemoveMemberQuery::into_params(|| None)
}

/// `GET /admin/members`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    // Before the ledger is locked: nothing is locked twice.
    let status = shared.context.cluster.status();
    let ledger = shared.read(call).await?;
    let led_ms = ledger.clock().led_ms + ledger.since_written_ms();
    let members = ledger.members().map(|member| view_of(member, &ledger, &status.peers)).collect();
    let invited = ledger
        .tickets()
        .filter(|ticket| !ticket.joined)
        .map(|ticket| TicketView {
            node_id: ticket.node,
            learner: ticket.learner,
            replaces: ticket.replaces,
            expires_in_ms: ticket.expires_led_ms.saturating_sub(led_ms),
        })
        .collect();
    let former = ledger
        .former_members()
        .map(|former| FormerView {
            node_id: former.node,
            removed_at: UtcTime::from_unix_ms(former.removed_at_ms),
            had_joined: former.directory_incarnation != 0,
        })
        .collect();
    Ok(Reply::ok(&MemberList { leader: status.leader, members, invited, former }))
}

fn view_of(member: &Member, ledger: &Ledger, peers: &[PeerStatus]) -> MemberView {
    let peer = peers.iter().find(|peer| peer.id == member.node);
    let ticket = ledger.ticket(member.node);
    MemberView {
        node_id: member.node,
        part: match peer.map(|peer| peer.voter) {
            Some(true) => MemberPart::Voter,
            Some(false) => MemberPart::Learner,
            None => MemberPart::Outside,
        },
        peer_address: member.peer_address.to_string(),
        gateway_url: member.gateway_url.to_string(),
        region: member.region.to_string(),
        zone: member.zone.to_string(),
        joining: ticket.is_some(),
        replaces: ticket.and_then(|ticket| ticket.replaces),
    }
}

/// `POST /admin/members`
pub(crate) async fn add(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: AddMemberRequest = call.json_or_default()?;
    let minutes = request.valid_minutes.unwrap_or(DEFAULT_TICKET_MINUTES);
    if !(1..=MAX_TICKET_MINUTES).contains(&minutes) {
        return Err(Failure::field("valid_minutes", "want 1 to 1440"));
    }
    if request.learner && request.replaces.is_some() {
        return Err(Failure::field("learner", "who takes another's place votes"));
    }
    let mut secret = [0; 32];
    shared.context.entropy.fill(&mut secret);
    let secret = Secret::new(secret);
    let valid_ms = u64::from(minutes) * 60_000;
    let command = Command::AddTicket(AddTicket {
        token_mac: join_token_mac(&keys.operator_pepper, secret.expose()),
        valid_ms,
        learner: request.learner,
        replaces: request.replaces,
    });
    let request_id = call.request_id(&request);
    let decided = shared.decide(call, Some(request_id), command).await?;
    let node = match decided.outcome {
        Outcome::Ticket { node, token_matches: true } => node,
        Outcome::Ticket { node, token_matches: false } => {
            let problem =
                Problem::new(409, "secret_shown_before", "This was done before.").detail(format!(
                    "an earlier request with this key showed the token of node {node}; withdraw \
                     it (leasehold member remove {node}) and add another"
                ));
            return Err(problem.into());
        }
        Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
        _ => return Err(Failure::internal("an invitation had the outcome of another command")),
    };
    let token = token_of(shared, node, secret)?.encode().map_err(|error| {
        Failure::from(
            Problem::new(409, "token_not_writable", "The join token cannot be written.")
                .detail(error.to_string()),
        )
    })?;
    let response = AddMemberResponse {
        node_id: node,
        command: format!("leasehold cluster join --token {}", token.expose()),
        token,
        expires_in_ms: valid_ms,
        replaces: request.replaces,
    };
    Ok(Reply::json(StatusCode::CREATED, &response))
}

fn token_of(shared: &Shared, node: NodeId, secret: Secret<[u8; 32]>) -> Result<JoinToken, Failure> {
    let anchors = shared.context.authority.anchors().map_err(|error| authority(&error))?;
    let ledger = shared.context.cluster.ledger();
    let authority = match (pinned_anchor(&ledger), anchors.first()) {
        (Some(anchor), _) => anchor.fingerprint,
        (None, Some(first)) => Sha256::digest(first).into(),
        (None, None) => return Err(Failure::internal("no authority")),
    };
    let cluster_id = ledger.cluster().map(|it| it.cluster_id.to_string()).unwrap_or_default();
    let own = shared.config.public_url.clone();
    let others =
        ledger.members().map(|member| member.gateway_url.to_string()).filter(|url| *url != own);
    let gateways = [own.clone()].into_iter().chain(others).take(MAX_GATEWAYS).collect();
    Ok(JoinToken { node, secret, authority, cluster_id, gateways })
}

/// `POST /admin/members/{node_id}/promote`
pub(crate) async fn promote(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let node = node_in_path(call)?;
    {
        let ledger = shared.read(call).await?;
        if ledger.member(node).is_none() {
            return Err(unknown_member());
        }
    }
    change(shared, Change::Promote { node }).await?;
    Ok(Reply::no_content())
}

/// `DELETE /admin/members/{node_id}`
pub(crate) async fn remove(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let node = node_in_path(call)?;
    let query: RemoveMemberQuery = call.query()?;
    let is_known = {
        let ledger = shared.read(call).await?;
        ledger.member(node).is_some()
            || ledger.ticket(node).is_some()
            || ledger.former_members().any(|former| former.node == node)
    };
    if !is_known {
        return Err(unknown_member());
    }
    let peers = shared.context.cluster.status().peers;
    if peers.iter().any(|peer| peer.id == node) {
        arithmetic::may_be_removed(shared, node, &peers, query.force).await?;
        change(shared, Change::Remove { node }).await?;
    }
    let command = Command::RemoveMember(RemoveMember {
        node,
        revoke_tokens: query.revoke_tokens,
        reason: "removed by an operator".into(),
    });
    let request_id = call.request_id(&(query.force, query.revoke_tokens));
    // Consensus may have taken the call's own time.
    let envelope = call.envelope(Some(request_id), command)?;
    let submitted = shared.context.cluster.submit(vec![envelope], CHANGE_TIME).await?;
    match submitted.outcomes.first() {
        Some(Outcome::Done | Outcome::Unchanged) => Ok(Reply::no_content()),
        Some(Outcome::Refused(refusal)) => Err(admin_failure(refusal)),
        _ => Err(Failure::internal("a removal had the outcome of another command")),
    }
}

/// Has consensus changed; gives who leads afterwards.
async fn change(shared: &Shared, change: Change) -> Result<NodeId, Failure> {
    let changed = shared.context.cluster.change(change, CHANGE_TIME).await;
    changed.map_err(|error| match error {
        ChangeError::InProgress => Failure::problem(
            StatusCode::CONFLICT,
            "change_in_progress",
            "Another change of the members is under way; try again in a moment.",
        ),
        ChangeError::NotPossible(why) => {
            Problem::new(409, "change_not_possible", "The members cannot be changed so.")
                .detail(why)
                .into()
        }
        ChangeError::NotLeader(_) => raft::ReadError::NoQuorum.into(),
        ChangeError::Timeout => Failure::not_seen_in_time(),
        ChangeError::Failed(reason) => raft::ReadError::Failed(reason).into(),
    })
}

fn node_in_path(call: &Call) -> Result<NodeId, Failure> {
    let text = call.subject()?;
    let node: Option<NodeId> = text.parse().ok();
    node.filter(|node| node.to_string() == text).ok_or_else(unknown_member)
}

fn unknown_member() -> Failure {
    Failure::problem(StatusCode::NOT_FOUND, "unknown_member", "No such node.")
}

/// What the authority says no to.
fn authority(error: &AuthorityError) -> Failure {
    match error {
        AuthorityError::Request(why) => Failure::field("csr", why),
        AuthorityError::Sealed => Failure::unavailable(
            "no_authority",
            "This node cannot open the key of the certificate authority; ask another.",
            Duration::from_secs(5),
        ),
        AuthorityError::Unusable(why) => Failure::internal(why),
    }
}

/// For a change of the members: two entries, with a peer that is slow to start.
const CHANGE_TIME: Duration = Duration::from_secs(8);
