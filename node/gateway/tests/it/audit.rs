//! The audit log over the admin API: pages, filters, whether it is whole, signed segments, pruning,
//! and what a changed log looks like.

use std::path::Path;
use std::sync::Arc;

use protocol::audit_segment::{EventHash, SegmentError, SegmentReader, VerifiedSegment};
use protocol::offline::KeySet;
use serde_json::{Value, json};
use storage::seam::{RealClock, RealDisk};
use storage::state::{Row, StateConfig, StateStore};

use crate::world::{Answer, PACKAGE, World, text_of};

async fn list(world: &World, query: &str) -> Answer {
    world.get(&format!("/admin/audit?{query}")).bearer(&world.auditor).send().await
}

fn seqs(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| text_of(event, "seq").parse().expect("a number")).collect()
}

/// Every event that a query finds, over all its pages.
async fn all(world: &World, query: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(world, &format!("{query}{cursor}")).await.expect(200);
        found.extend(page["events"].as_array().expect("events").clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn numbers(events: &[Value]) -> Vec<u64> {
    seqs(&json!({ "events": events }))
}

async fn head(world: &World) -> u64 {
    let page = list(world, "limit=1").await.expect(200);
    text_of(&page, "head").parse().expect("a number")
}

/// That the node says its log is whole, in as many answers as it takes.
async fn verify(world: &World) -> Value {
    let mut cursor = String::new();
    loop {
        let path = format!("/admin/audit/verify?{cursor}");
        let answer = world.get(&path).bearer(&world.auditor).send().await.expect(200);
        match answer["next"].as_str() {
            Some(next) => cursor = format!("cursor={next}"),
            None => return answer,
        }
    }
}

async fn export(world: &World, query: &str) -> Answer {
    world.get(&format!("/admin/audit/export?{query}")).bearer(&world.auditor).send().await
}

async fn keys(world: &World) -> KeySet {
    let answer = world.get("/.well-known/leasehold-offline-keys.json").send().await;
    KeySet::from_json(answer.text.as_bytes()).expect("a key set")
}

fn read(text: &str, keys: &KeySet) -> Result<VerifiedSegment, SegmentError> {
    let mut reader = SegmentReader::default();
    let whole = text.strip_suffix('\n').ok_or(SegmentError::Truncated)?;
    for line in whole.split('\n') {
        reader.line(line.as_bytes())?;
    }
    reader.finish(keys)
}

async fn prune(world: &World, body: &Value) -> Answer {
    world.post("/admin/audit/prune").bearer(&world.admin).json(body).send().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_every_event_once_from_either_end() {
    let (world, app) = World::ready(&[]).await;
    world.cluster.checkpoint_now().await.expect("a checkpoint");
    for user in ["alice", "bob", "carl"] {
        let lease = world.checkout(&app.token, user).send().await.expect(200);
        world.give_back(&app.token, &lease).send().await.expect(200);
    }
    let head = head(&world).await;
    assert!(head > 10);
    for limit in [1, 3, 100] {
        let up = numbers(&all(&world, &format!("limit={limit}")).await);
        assert_eq!(up, (1..=head).collect::<Vec<_>>());
        let down = numbers(&all(&world, &format!("limit={limit}&order=desc")).await);
        assert_eq!(down, (1..=head).rev().collect::<Vec<_>>());
    }
    let after = numbers(&all(&world, &format!("after={}&limit=1", head - 2)).await);
    assert_eq!(after, [head - 1, head]);
    let after = numbers(&all(&world, &format!("after={}&order=desc", head - 2)).await);
    assert_eq!(after, [head, head - 1]);
    assert!(seqs(&list(&world, &format!("after={head}")).await.expect(200)).is_empty());
    let gone = list(&world, "cursor=7-3").await.expect(410);
    assert_eq!(gone["code"], "epoch_changed");
    list(&world, "cursor=1-3").await.expect(200);
    for wrong in ["cursor=x", "kind=nonsense", "limit=0", "order=up", "lease_id=x", "since=now"] {
        list(&world, wrong).await.expect(400);
    }
    // Each says the hash of the one before.
    let events = all(&world, "").await;
    for pair in events.windows(2) {
        assert_eq!(pair[0]["hash"], pair[1]["previous"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_what_they_say() {
    let (world, app) = World::ready(&[]).await;
    let lease = world.checkout(&app.token, "alice").send().await.expect(200);
    world.checkout(&app.token, "bob").send().await.expect(200);
    world.give_back(&app.token, &lease).send().await.expect(200);
    let all_events = all(&world, "").await;
    let granted = all(&world, "kind=lease_granted").await;
    assert_eq!(granted.len(), 2);
    let event = &granted[0];
    assert_eq!(event["user"]["name"], "alice");
    assert_eq!(event["host"]["name"], "host-1");
    assert_eq!(event["actor"], text_of(&json!({ "id": app.app_id }), "id"));
    assert_eq!(event["package_id"], PACKAGE);
    assert_eq!(event["lease_id"], lease["lease_id"]);
    assert_eq!(event["detail"]["class"], "commit");
    assert_eq!(event["detail"]["fence"], lease["fence"]);
    let reference = text_of(&event["user"], "reference").to_owned();
    let count = |fits: &dyn Fn(&Value) -> bool| all_events.iter().filter(|it| fits(it)).count();
    let lease_id = text_of(&lease, "lease_id");
    let table = [
        (format!("lease_id={lease_id}"), 2),
        (format!("package_id={PACKAGE}"), count(&|it| it["package_id"] == PACKAGE)),
        ("package_id=another".to_owned(), 0),
        (format!("actor={}", app.app_id), 3),
        ("actor=node-1".to_owned(), count(&|it| it["actor"] == "node-1")),
        ("user=alice".to_owned(), 2),
        (format!("user={reference}"), 2),
        ("user=nobody".to_owned(), 0),
        ("host=host-1".to_owned(), 3),
        ("host=host-1&kind=lease_returned".to_owned(), 1),
        ("since=2999-01-01T00:00:00Z".to_owned(), 0),
        ("since=2020-01-01T00:00:00Z".to_owned(), all_events.len()),
        ("until=2020-01-01T00:00:00Z".to_owned(), 0),
    ];
    for (query, want) in table {
        for limit in [1, 100] {
            for order in ["asc", "desc"] {
                let found = all(&world, &format!("{query}&limit={limit}&order={order}")).await;
                assert_eq!(found.len(), want, "{query} {limit} {order}");
            }
        }
    }
    // A moment in the middle parts the log in two.
    let middle = text_of(&all_events[all_events.len() / 2], "time").to_owned();
    let before = all(&world, &format!("until={middle}")).await.len();
    let since = all(&world, &format!("since={middle}")).await.len();
    assert_eq!(before + since, all_events.len());
    assert!(since > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_proves_itself_and_what_it_holds_may_go() {
    let (world, app) = World::ready(&[]).await;
    for user in ["alice", "bob"] {
        world.checkout(&app.token, user).send().await.expect(200);
    }
    world.cluster.checkpoint_now().await.expect("a checkpoint");
    let (keys, head) = (keys(&world).await, head(&world).await);
    let answer = export(&world, "").await;
    assert_eq!(answer.header("content-type"), Some("application/jsonl"));
    let whole = read(&answer.text, &keys).expect("genuine");
    assert_eq!((whole.header.from, whole.header.to, whole.count), (1, head, head));
    assert_eq!(whole.header.cluster_id, "lh-test");
    // What it shows of an event is what the list shows.
    let events = all(&world, "").await;
    let shown: Vec<Value> = answer
        .text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).expect("JSON").get("event").cloned())
        .collect();
    assert_eq!(shown, events);
    let mut bytes = answer.text.clone().into_bytes();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(read(&String::from_utf8(bytes).expect("ASCII"), &keys).is_err());
    let part = read(&export(&world, "from=3&to=6").await.text, &keys).expect("genuine");
    assert_eq!((part.header.from, part.count), (3, 4));
    assert_eq!(part.hash.text(), text_of(&events[5], "hash"));
    for wrong in ["from=0", "from=9&to=3", &format!("to={}", head + 1)] {
        export(&world, wrong).await.expect(400);
    }

    let hash = |seq: u64| text_of(&events[seq as usize - 1], "hash").to_owned();
    let table = [
        (json!({ "upto_seq": "6", "hash": hash(5) }), 409),
        (json!({ "upto_seq": head.to_string(), "hash": hash(head) }), 400),
        (json!({ "upto_seq": "0", "hash": hash(5) }), 404),
        (json!({ "hash": hash(5) }), 400),
        (json!({ "upto_seq": "6", "hash": "00" }), 400),
        (json!({ "upto_seq": "6", "hash": part.hash }), 200),
        (json!({ "upto_seq": "6", "hash": part.hash }), 200),
        (json!({ "upto_seq": "5", "hash": hash(5) }), 404),
    ];
    for (body, status) in table {
        prune(&world, &body).await.expect(status);
    }
    let left = all(&world, "").await;
    assert_eq!(numbers(&left)[0], 7);
    assert_eq!(left.last().expect("an event")["kind"], "audit_pruned");
    world.cluster.checkpoint_now().await.expect("a checkpoint");
    assert_eq!(all(&world, "").await, left, "the checkpoint takes nothing that is shown");
    assert_eq!(verify(&world).await["intact"], true);
    export(&world, "from=6").await.expect(400);
    let rest = read(&export(&world, "").await.text, &keys).expect("genuine");
    assert_eq!((rest.header.from, rest.header.previous), (7, part.hash), "the two hang together");

    // Before a moment: everything until then, whose last hash is the caller's to know.
    let moment = text_of(left.last().expect("an event"), "time");
    let body = json!({ "before": moment, "hash": EventHash([0; 32]) });
    let refused = prune(&world, &body).await;
    assert!([400, 404, 409].contains(&refused.status.as_u16()), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_says_where_it_is_whole_and_goes_on_where_it_was_asked_before() {
    let (world, app) = World::ready(&[]).await;
    world.checkout(&app.token, "alice").send().await.expect(200);
    let answer = verify(&world).await;
    let head = head(&world).await.to_string();
    assert_eq!((&answer["intact"], &answer["first"]), (&json!(true), &json!("1")));
    assert_eq!((&answer["last"], &answer["events"]), (&json!(head), &json!(head)));
    assert_eq!(answer["node"], 1);
    let events = all(&world, "").await;
    assert_eq!(answer["hash"], events.last().expect("an event")["hash"]);
    // A cursor vouches for what is before it, so a wrong one is a break.
    let third = text_of(&events[2], "hash");
    for (cursor, intact) in [(format!("3:{third}"), true), (format!("2:{third}"), false)] {
        let path = format!("/admin/audit/verify?cursor={cursor}");
        let answer = world.get(&path).bearer(&world.auditor).send().await.expect(200);
        assert_eq!(answer["intact"], intact, "{answer}");
    }
    for wrong in ["x", "3", "3:00", ":"] {
        let path = format!("/admin/audit/verify?cursor={wrong}");
        world.get(&path).bearer(&world.auditor).send().await.expect(400);
    }
}

/// The stored block with event `seq`, cut into events.
fn block_of(store: &StateStore, seq: u64) -> (Vec<u8>, u64, Vec<Vec<u8>>) {
    let blocks = store.range(lease::rows::table::AUDIT, &[], 1_000).expect("blocks");
    let first = |key: &[u8]| u64::from_be_bytes(key.try_into().expect("a number"));
    let (key, block) = blocks.into_iter().rfind(|(key, _)| first(key) <= seq).expect("a block");
    let events = lease::audit::split_audit_block(&block).expect("a block");
    (key.clone(), first(&key), events)
}

/// Puts other events in place of a stored block, as somebody would who can write to the disk and
/// knows how all sums are made.
fn forge(dir: &Path, seq: u64, change: fn(usize, &mut Vec<Vec<u8>>)) {
    let config = StateConfig { cache_bytes: 4 << 20, ..StateConfig::new(dir.join("data/state")) };
    let (disk, clock) = (Arc::new(RealDisk), Arc::new(RealClock::new()));
    let (store, meta) = StateStore::open(disk, clock, config).expect("the store opens");
    let (key, first, mut events) = block_of(&store, seq);
    change((seq - first) as usize, &mut events);
    let block = (first, events);
    let value = lease::format::encode(lease::format::Kind::AuditBlock, 1, &block);
    let row = Row { table: lease::rows::table::AUDIT, key, value: Some(value) };
    let meta = meta.expect("a checkpoint");
    store.checkpoint(meta, vec![row], Vec::new()).expect("a checkpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_log_is_found_at_the_event_that_was_forged() {
    type Forgery = fn(usize, &mut Vec<Vec<u8>>);
    let edited: Forgery = |at, events| {
        let last = events[at].len() - 1;
        events[at][last] ^= 1;
    };
    let removed: Forgery = |at, events| {
        events.remove(at);
    };
    let doubled: Forgery = |at, events| {
        let event = events[at].clone();
        events.insert(at, event);
    };
    // What follows an edited event does not follow from it; it may not even read.
    for (forgery, found_at) in [(edited, [6, 7]), (removed, [6, 6]), (doubled, [7, 7])] {
        let (world, app) = World::ready(&[]).await;
        world.checkout(&app.token, "alice").send().await.expect(200);
        assert_eq!(verify(&world).await["intact"], true);
        let world = world.restarted(|dir| forge(dir, 6, forgery)).await;
        let answer = verify(&world).await;
        assert_eq!(answer["intact"], false, "{answer}");
        let broken_at: u64 = text_of(&answer, "broken_at").parse().expect("a number");
        assert!(found_at.contains(&broken_at), "{answer}");
        assert!(!text_of(&answer, "reason").is_empty());
        // No segment is signed over it.
        let answer = world.get("/admin/audit/export").bearer(&world.auditor);
        let exported = answer.send_whole().await.filter(|answer| answer.status == 200);
        assert!(exported.is_none(), "a forged log was exported");
    }
}
