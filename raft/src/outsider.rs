//! A node that hears of no leader asks the members that it knows whether it is still one.
//!
//! A node that is removed while it is down, or cut off, learns of it from nobody: the others no
//! longer talk to it, and the last entry it has may still count it in. So when it has not heard of
//! a leader for long, it asks them, one after the other, with a call that changes nothing. What it
//! is then told ends it ([`crate::frames::Refused::Removed`]).

use std::sync::Arc;
use std::time::Duration;

use crate::context::{Context, stopped};
use crate::frames::{Answer, AskReadIndex, ReadIndex, decode, encode};
use crate::status::NodeRole;
use crate::transport::PeerCall;

/// Runs until the node stops.
pub(crate) async fn watch(context: Arc<Context>) {
    let mut stopping = context.stopping.subscribe();
    let asking = async {
        let mut turn = 0;
        let mut has_told = false;
        loop {
            tokio::time::sleep(Duration::from_millis(4 * context.timing.election_max_ms)).await;
            if !is_forgotten(&context) {
                continue;
            }
            let peers = context.peers.borrow().clone();
            if !peers.addresses.is_empty()
                && !peers.addresses.contains_key(&context.node)
                && !std::mem::replace(&mut has_told, true)
            {
                tracing::warn!(node = context.node, "this node is not among the members it knows");
            }
            let others: Vec<_> =
                peers.addresses.into_keys().filter(|peer| *peer != context.node).collect();
            if let Some(peer) = others.get(turn % others.len().max(1)) {
                ask(&context, *peer).await;
            }
            turn += 1;
        }
    };
    tokio::select! {
        () = stopped(&mut stopping) => {}
        () = asking => {}
    }
}

/// Whether no leader was heard of for long.
fn is_forgotten(context: &Context) -> bool {
    let leads = context.leadership.borrow().role == NodeRole::Leader;
    let bound_ms = 8 * context.timing.election_max_ms;
    !leads && context.leader_contact_age_ms().is_none_or(|age_ms| age_ms > bound_ms)
}

async fn ask(context: &Context, peer: lease::ids::NodeId) {
    let body = AskReadIndex { deadline_ms: 0 };
    let message = encode(&context.request(peer, body));
    let wait = Duration::from_millis(2 * context.timing.election_max_ms);
    let calling = context.transport.call(peer, PeerCall::ReadIndex, message, wait);
    let Ok(Ok(answer)) = tokio::time::timeout(wait, calling).await else { return };
    let Ok(answer) = decode::<Answer<ReadIndex>>(&answer) else { return };
    if let Err(refused) = answer.body
        && answer.sender.node == peer
        && context.admit(&answer.sender).is_ok()
    {
        context.refused_by(peer, &refused);
    }
}
