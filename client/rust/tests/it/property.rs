//! Under any sequence of answers, losses and delays, nobody holds a lease longer than a server that
//! counts from when it heard the request.

use std::time::Duration;

use leasehold_client::Verdict;
use proptest::prelude::*;
use serde_json::json;

use crate::far::{ATTEMPT, Far, denied, renewed, story};
use crate::renewal::lease;

/// What becomes of a heartbeat.
#[derive(Debug, Clone)]
enum Fate {
    /// Answered after so long with so much.
    Renewed {
        after_ms: u64,
        term_ms: u64,
    },
    /// Done, and the answer lost; the next attempt gets the same answer.
    Lost,
    /// Heard by nobody.
    Hangs,
    Busy {
        retry_after_s: u64,
    },
    Misunderstood,
    Ended,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => (0..9_000_u64, 1..1_500_000_u64)
            .prop_map(|(after_ms, term_ms)| Fate::Renewed { after_ms, term_ms }),
        2 => Just(Fate::Lost),
        2 => Just(Fate::Hangs),
        2 => (0..200_u64).prop_map(|retry_after_s| Fate::Busy { retry_after_s }),
        1 => Just(Fate::Misunderstood),
        1 => Just(Fate::Ended),
    ];
    proptest::collection::vec(fate, 1..16)
}

/// Plays the fates; the end by the server's count is kept beside.
async fn play(seed: u64, fates: &[Fate]) -> Result<(), TestCaseError> {
    let mut far = Far::start_seeded(2, seed).await;
    let client = far.client();
    let held = lease(&mut far, &client).await;
    let mut watch = held.watch();
    // When the server's latest count ends; the server heard the checkout at zero.
    let mut server_ends = Duration::from_millis(crate::far::TERM_MS);
    for fate in fates {
        let world = std::sync::Arc::clone(&far.world);
        let request = loop {
            tokio::select! {
                biased;
                _ = watch.changed() => {
                    check(&held, &far, server_ends)?;
                    if !held.verdict().permits_use() {
                        far.end(held).await;
                        return Ok(());
                    }
                }
                request = far.heard() => break request,
                _ = world.until_awake() => check(&held, &far, server_ends)?,
            }
        };
        match fate {
            Fate::Renewed { after_ms, term_ms } => {
                let ends = far.world.now() + Duration::from_millis(*term_ms);
                server_ends = server_ends.max(ends);
                far.world.advance(Duration::from_millis(*after_ms));
                request.answer(200, &renewed("rt-n", *term_ms));
            }
            Fate::Lost => {
                let ends = far.world.now() + Duration::from_millis(crate::far::TERM_MS);
                server_ends = server_ends.max(ends);
                request.cut();
            }
            Fate::Hangs => {
                far.world.advance(ATTEMPT);
                drop(request);
            }
            Fate::Busy { retry_after_s } => {
                let body = json!({ "outcome": "not_executed" });
                request.answer_with(503, &[("retry-after", &retry_after_s.to_string())], &body);
            }
            Fate::Misunderstood => request.answer_text(200, "<html>"),
            Fate::Ended => {
                request.answer(410, &denied("lease_ended"));
                let verdict = crate::far::within(watch.changed()).await;
                prop_assert!(verdict.is_some_and(|verdict| !verdict.permits_use()));
                break;
            }
        }
        check(&held, &far, server_ends)?;
    }
    far.end(held).await;
    Ok(())
}

fn check(
    held: &leasehold_client::Lease,
    far: &Far,
    server_ends: Duration,
) -> Result<(), TestCaseError> {
    let (now, verdict) = (far.world.now(), held.verdict());
    if verdict.permits_use() {
        prop_assert!(now < server_ends, "{verdict:?} at {now:?}, ended at {server_ends:?}");
        prop_assert!(now + held.remaining() <= server_ends, "{:?}", held.remaining());
    }
    if let Verdict::Lost { .. } = verdict {
        prop_assert!(held.remaining().is_zero());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn nobody_holds_longer_than_the_server_counts(seed in any::<u64>(), fates in fates()) {
        let mut outcome = Ok(());
        story(async { outcome = play(seed, &fates).await });
        outcome?;
    }
}
