//! The stream of events: everything once and in order, across coming back, and when it ends.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::world::{Answer, World, text_of};

/// An open stream.
struct Stream {
    body: axum::body::BodyDataStream,
    /// What came and was not an end of an event yet.
    rest: String,
}

/// An event as it was sent.
#[derive(Debug, PartialEq)]
struct Sent {
    id: u64,
    kind: String,
    data: Value,
}

impl Stream {
    async fn open(world: &World, query: &str, last_id: Option<u64>) -> Self {
        let mut ask = world.get(&format!("/admin/events{query}")).bearer(&world.auditor);
        if let Some(id) = last_id {
            ask = ask.header("last-event-id", &format!("1-{id}"));
        }
        let response = ask.open().await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: Body::into_data_stream(response.into_body()), rest: String::new() }
    }

    /// The next event; comments and the word about coming back are passed over. `None`: the end.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some((text, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| {
                    text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let sent = field("id: ").map(|id| Sent {
                    id: id.strip_prefix("1-").expect("epoch 1").parse().expect("a number"),
                    kind: field("event: ").expect("a kind"),
                    data: serde_json::from_str(&field("data: ").expect("data")).expect("JSON"),
                });
                self.rest = rest.to_owned();
                if sent.is_some() {
                    return sent;
                }
            }
            let chunk = self.body.next().await?.expect("a stream");
            self.rest.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    async fn take(&mut self, count: usize) -> Vec<Sent> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await.expect("more"));
        }
        taken
    }
}

async fn head(world: &World) -> u64 {
    let answer = world.get("/admin/audit?limit=1").bearer(&world.auditor).send().await;
    text_of(&answer.expect(200), "head").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_everything_once_and_goes_on_where_it_was() {
    let (world, app) = World::ready(&[]).await;
    let before = head(&world).await;
    let mut stream = Stream::open(&world, "?after=0", None).await;
    let all = stream.take(usize::try_from(before).unwrap()).await;
    assert_eq!(
        all.iter().map(|sent| sent.id).collect::<Vec<_>>(),
        (1..=before).collect::<Vec<_>>()
    );
    assert_eq!(all[0].kind, "cluster_founded");
    assert!(all.iter().all(|sent| text_of(&sent.data, "seq") == sent.id.to_string()));
    let mut grants = Stream::open(&world, "?kind=lease_granted", None).await;
    let lease = world.checkout(&app.token, "alice").send().await.expect(200);
    let granted = stream.next().await.expect("the grant");
    assert_eq!((granted.kind.as_str(), granted.id), ("lease_granted", before + 1));
    assert_eq!(grants.next().await.expect("the grant"), granted, "the same, where it is asked for");
    world.give_back(&app.token, &lease).send().await.expect(200);
    drop(stream);
    let mut again = Stream::open(&world, "?after=1", Some(before)).await;
    let rest = again.take(2).await;
    assert_eq!(rest[0], granted, "behind the last id, whatever the query says");
    assert_eq!(rest[1].kind, "lease_returned");
    world.clock.pass(Duration::from_secs(28));
    assert_eq!(again.next().await, None, "a stream ends before its connection is idle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_cannot_go_on_is_told_why() {
    let (world, _) = World::ready(&[]).await;
    let newest = head(&world).await;
    let ask = async |query: &str, last_id: &str| -> Answer {
        let ask = world.get(&format!("/admin/events{query}")).bearer(&world.auditor);
        let ask = if last_id.is_empty() { ask } else { ask.header("last-event-id", last_id) };
        ask.send().await
    };
    for (query, last_id, field) in [
        ("", "yesterday", "Last-Event-ID"),
        ("", "1-yesterday", "Last-Event-ID"),
        (&*format!("?after={}", newest + 1), "", "after"),
        ("?kind=party", "", "kind"),
    ] {
        let problem = ask(query, last_id).await.expect(400);
        assert!(problem.to_string().contains(field), "{problem}");
    }
    let third = world.get("/admin/audit?after=2&limit=1").bearer(&world.auditor).send().await;
    let third = third.expect(200)["events"][0].clone();
    let body = json!({ "upto_seq": "3", "hash": third["hash"] });
    world.post("/admin/audit/prune").bearer(&world.admin).json(&body).send().await.expect(200);
    let problem = ask("?after=2", "").await.expect(410);
    assert_eq!(problem["code"], "events_pruned");
    let problem = ask("", "7-3").await.expect(410);
    assert_eq!(problem["code"], "epoch_changed");
    assert!(problem["detail"].to_string().contains("the epoch now is 1"), "{problem}");
    let bare = world.get("/admin/events").bearer(&world.auditor).header("last-event-id", "3");
    assert_eq!(bare.open().await.status().as_u16(), 200, "a number is one of this epoch");
    let mut behind = Stream::open(&world, "?after=3", None).await;
    assert_eq!(behind.next().await.expect("the fourth").id, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_credential() {
    let (world, _) = World::ready(&[]).await;
    let mut stream = Stream::open(&world, "", None).await;
    let listed = world.get("/admin/operators").bearer(&world.admin).send().await.expect(200);
    let auditor = listed["operators"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["role"] == "auditor"))
        .expect("the auditor");
    let path = format!("/admin/operators/{}", text_of(auditor, "operator_id"));
    let removed = world.ask(http::Method::DELETE, &path).bearer(&world.admin).send().await;
    assert!(removed.status.is_success(), "{removed:?}");
    while let Some(sent) = stream.next().await {
        assert_eq!(sent.kind, "operator_removed");
    }
}
