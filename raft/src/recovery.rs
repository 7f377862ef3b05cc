//! What a node does once after its start, before it may be relied on: it applies what its log held,
//! and then lets time pass once through the leader, since the clocks of a quiet ledger are those of
//! its last entry, which may be hours old.

use lease::command::Command;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use crate::context::{Raft, stopped};
use crate::outcome::SubmitErrorKind;
use crate::proposer::own_command;
use crate::submit::Router;

/// Tells when the node has recovered. `found` is the last index its log held at the start.
pub(crate) async fn recover(
    raft: Raft,
    router: Router,
    found: Option<u64>,
    recovered: watch::Sender<bool>,
) {
    let mut stopping = router.context.stopping.subscribe();
    let recovering = async {
        if caught_up(&raft, found).await && time_passed(&router).await {
            recovered.send_replace(true);
        }
    };
    tokio::select! {
        () = stopped(&mut stopping) => {}
        () = recovering => {}
    }
}

/// Waits until what was in the log at the start is known to be committed and has been applied;
/// `false` when openraft has stopped.
///
/// openraft's own wait asks for all that is in the log by now, which under load is never so.
async fn caught_up(raft: &Raft, found: Option<u64>) -> bool {
    let mut metrics = raft.metrics();
    loop {
        let is_caught_up = {
            let now = metrics.borrow_watched();
            // What was never committed may have been cut off meanwhile.
            let goal = found.min(now.last_log_index);
            let committed = now.cluster_committed.as_ref().map(|id| id.index);
            let applied = now.last_applied.as_ref().map(|id| id.index);
            committed.is_some() && committed >= goal && applied >= goal
        };
        if is_caught_up {
            return true;
        }
        if metrics.changed().await.is_err() {
            return false;
        }
    }
}

/// Waits until a tick of this node is applied here; `false` when the node has failed. Asked again
/// only where no leader with a quorum took it.
async fn time_passed(router: &Router) -> bool {
    let context = &router.context;
    let wait = std::time::Duration::from_millis(2 * context.timing.election_max_ms);
    let ticked_at = loop {
        let tick = own_command(context.node, Command::Tick);
        match router.submit(vec![tick], wait).await {
            Ok(ticked) => break ticked.index,
            Err(error) => match error.kind {
                // The deadline was the pause.
                SubmitErrorKind::NoQuorum => {}
                SubmitErrorKind::Overloaded { retry_after } => {
                    tokio::time::sleep(retry_after).await;
                }
                SubmitErrorKind::ShuttingDown
                | SubmitErrorKind::TooLarge(_)
                | SubmitErrorKind::Failed(_) => return false,
            },
        }
    };
    let mut applied = context.replica.applied.subscribe();
    let there = applied.wait_for(|mark| mark.position.is_some_and(|it| it.index >= ticked_at));
    there.await.is_ok()
}
