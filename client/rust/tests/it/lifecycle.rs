//! Handles and hosts: dropping, releasing, callbacks, executors of every kind.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use leasehold_client::{Error, GraceReason, LostReason, Release, UsageMetadata, Verdict};
use serde_json::json;
use tokio::sync::mpsc;

use crate::far::{Far, TERM_MS, both, denied, granted, renewed, returned, story, within};
use crate::renewal::lease;

const RETURN: &str = "POST /api/v1/licenses/lease-1/return";

#[test]
fn a_dropped_lease_is_given_back() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let mut watch = lease.watch();
        far.world.advance(Duration::from_secs(65));
        lease.report(UsageMetadata {
            features_used: vec!["can_editor".to_owned()],
            files_processed: Some(42),
            ..UsageMetadata::default()
        });
        drop(lease);
        let request = far.expect(RETURN).await;
        let want = json!({
            "session_duration_seconds": 65, "features_used": ["can_editor"], "files_processed": 42
        });
        assert_eq!(request.json()["usage_metadata"], want);
        let settled = client.settle();
        let mut settled = pin!(settled);
        assert!(tokio::time::timeout(Duration::ZERO, &mut settled).await.is_err());
        request.answer(200, &returned());
        within(settled).await;
        let told = within(watch.changed()).await;
        assert_eq!(told, Some(Verdict::Lost { reason: LostReason::Returned }));
        assert_eq!(within(watch.changed()).await, None);
    });
}

#[test]
fn a_lease_is_given_back_after_its_client_is_gone() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        drop(client);
        drop(lease);
        far.expect(RETURN).await.answer(200, &returned());
    });
}

#[test]
fn a_return_does_not_wait_for_a_renewal() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let held = lease(&mut far, &client).await;
        let (renewal, _) = far.later().await;
        drop(held);
        far.expect(RETURN).await.answer(200, &returned());
        drop(renewal);
        let held = lease(&mut far, &client).await;
        let (renewal, _) = far.later().await;
        let server = async { far.expect(RETURN).await.answer(200, &returned()) };
        both(held.release(), server).await.0.unwrap();
        drop(renewal);
    });
}

#[test]
fn a_checkout_that_nobody_waits_for_is_given_back() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let request = {
            let call = client.checkout("p", "u").outcome();
            tokio::select! {
                request = far.expect("POST /api/v1/licenses/checkout") => request,
                outcome = call => panic!("{outcome:?}"),
            }
        };
        request.answer(200, &granted("lease-1", TERM_MS));
        far.expect(RETURN).await.answer(200, &returned());
    });
}

#[test]
fn a_release_says_what_came_of_it() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        for (status, body, want) in [
            (200, returned(), Ok(true)),
            (409, denied("already_ended"), Ok(false)),
            (410, denied("lease_ended"), Ok(false)),
            (404, denied("unknown_lease"), Ok(false)),
            (403, denied("insufficient_scope"), Err(())),
            (409, denied("of_tomorrow"), Err(())),
        ] {
            let held = lease(&mut far, &client).await;
            let server = async { far.expect(RETURN).await.answer(status, &body) };
            let (released, ()) = both(held.release(), server).await;
            let got = match &released {
                Ok(Release::Returned { lease_duration, .. }) => {
                    assert_eq!(lease_duration, "0h 0m");
                    Ok(true)
                }
                Ok(Release::AlreadyEnded) => Ok(false),
                Err(Error::Unauthorized { .. } | Error::Rejected { .. }) => Err(()),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(got, want, "{status} {released:?}");
        }
        // A release is asked once more by nobody: dropped handles are counted, released are not.
        within(client.settle()).await;
        assert!(far.is_silent());
    });
}

#[test]
fn callbacks_are_told_every_change_and_a_panic_stays_with_them() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let (panics, mut panicked) = mpsc::channel(8);
        lease.on_change(move |verdict| {
            panics.try_send(verdict.clone()).unwrap();
            panic!("the host's callback");
        });
        let (tells, mut told) = mpsc::channel(8);
        lease.on_change(move |verdict| tells.try_send(verdict.clone()).unwrap());
        far.later().await.0.answer(403, &denied("insufficient_scope"));
        for from in [&mut panicked, &mut told] {
            let verdict = within(from.recv()).await;
            let Some(Verdict::Grace { why, .. }) = verdict else { panic!("{verdict:?}") };
            assert_eq!(why, GraceReason::Unauthorized);
        }
        far.later().await.0.answer(200, &renewed("rt-1", TERM_MS));
        for from in [&mut panicked, &mut told] {
            assert_eq!(within(from.recv()).await, Some(Verdict::Held));
        }
        far.later().await.0.answer(410, &denied("lease_ended"));
        for from in [&mut panicked, &mut told] {
            let lost = Verdict::Lost { reason: LostReason::Ended };
            assert_eq!(within(from.recv()).await, Some(lost));
        }
        // Lost at the server: there is nothing to give back.
        drop(lease);
        within(client.settle()).await;
        assert!(far.is_silent());
        for from in [&mut panicked, &mut told] {
            assert_eq!(within(from.recv()).await, None, "told and let go");
        }
    });
}

#[test]
fn a_callback_that_does_not_return_holds_up_nothing_else() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let lease = lease(&mut far, &client).await;
        let (entered, mut enters) = mpsc::channel::<()>(1);
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
        lease.on_change(move |_| {
            let _ = entered.try_send(());
            let _ = wait.recv();
        });
        far.later().await.0.answer(403, &denied("insufficient_scope"));
        within(enters.recv()).await.unwrap();
        far.later().await.0.answer(200, &renewed("rt-1", TERM_MS));
        drop(lease);
        far.expect(RETURN).await.answer(200, &returned());
        within(client.settle()).await;
        drop(go);
    });
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn no_runtime_is_needed_to_call_or_to_drop() {
    story(async {
        let mut far = Far::start(1).await;
        let client = far.client();
        let (end, ended) = tokio::sync::oneshot::channel();
        let program = std::thread::spawn(move || {
            let lease = wait(async { client.checkout("p", "u").await }).unwrap();
            assert_eq!(lease.verdict(), Verdict::Held);
            drop(lease);
            let lease = wait(async { client.checkout("p", "u").await }).unwrap();
            let released = wait(lease.release());
            assert!(matches!(released, Ok(Release::Returned { .. })), "{released:?}");
            wait(client.settle());
            drop(client);
            end.send(()).unwrap();
        });
        for _ in 0..2 {
            let request = far.expect("POST /api/v1/licenses/checkout").await;
            request.answer(200, &granted("lease-1", TERM_MS));
            // The second checkout may be heard before the first return.
            let mut request = far.expect_last("").await;
            if request.line != RETURN {
                let second = request;
                request = far.expect(RETURN).await;
                request.answer(200, &returned());
                second.answer(200, &granted("lease-1", TERM_MS));
                request = far.expect(RETURN).await;
                request.answer(200, &returned());
                break;
            }
            request.answer(200, &returned());
        }
        within(ended).await.unwrap();
        program.join().unwrap();
    });
}
