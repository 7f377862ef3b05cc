//! Alarms: listed, cleared, and what goes on while a disk is nearly full.

use http::Method;
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::TraceId;
use lease::operate::{AlarmKind, RaiseAlarm};
use serde_json::{Value, json};

use crate::world::{LIVENESS, World, text_of};

/// The node's watch would do it; here is none.
async fn raise(world: &World, kind: AlarmKind, detail: &str) {
    let alarm = RaiseAlarm { node: 1, kind, detail: detail.into() };
    let envelope = Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId(1),
        cause: None,
        command: Command::RaiseAlarm(alarm),
    };
    world.cluster.submit(vec![envelope], LIVENESS).await.expect("a quorum");
}

async fn alarms(world: &World) -> Value {
    world.get("/admin/alarms").bearer(&world.auditor).send().await.expect(200)["alarms"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_shown_wherever_one_looks_and_cleared() {
    let world = World::unsealed().await;
    assert_eq!(alarms(&world).await, json!([]));
    raise(&world, AlarmKind::Cert, "it ends in 3 days").await;
    raise(&world, AlarmKind::NoSpace, "9 MiB free").await;
    let listed = alarms(&world).await;
    let shown: Vec<_> =
        listed.as_array().unwrap().iter().map(|it| (text_of(it, "kind"), &it["logged"])).collect();
    assert_eq!(shown, [("CERT", &json!(true)), ("NOSPACE", &json!(true))]);
    let status = world.get("/admin/cluster/status").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(status["nodes"][0]["alarms"], json!(["CERT", "NOSPACE"]));
    assert_eq!(status["alarms"], listed);
    assert_eq!(status["epoch"]["number"], 1);
    assert_eq!(status["quorum"], json!({"voters": 1, "needed": 1, "answering": 1, "may_fail": 0}));
    let metrics = world.get("/metrics").send().await;
    assert!(metrics.text.contains("leasehold_alarm{kind=\"NOSPACE\",node=\"1\"} 1"));
    let ready = world.get("/readyz?verbose").send().await;
    assert_eq!(ready.status.as_u16(), 200, "a full disk keeps nobody from reading");
    assert!(ready.text.contains("[!]alarm NOSPACE is raised\n"), "{}", ready.text);

    let clear = |path: &str, token: &str| world.ask(Method::DELETE, path).bearer(token);
    clear("/admin/alarms/1/nospace", &world.auditor).send().await.expect(403);
    for path in ["/admin/alarms/1/LAG", "/admin/alarms/2/CERT", "/admin/alarms/x/CERT"] {
        let refused = clear(path, &world.operator).send().await.expect(404);
        assert_eq!(refused["code"], "unknown_alarm", "{path}");
    }
    let once = || clear("/admin/alarms/1/nospace", &world.operator).key("once").send();
    once().await.expect(204);
    once().await.expect(204);
    clear("/admin/alarms/1/CERT", &world.operator).send().await.expect(204);
    assert_eq!(alarms(&world).await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_node_is_not_ready() {
    let world = World::unsealed().await;
    raise(&world, AlarmKind::Corrupt, "its state differs").await;
    let ready = world.get("/readyz").send().await;
    assert_eq!(ready.status.as_u16(), 503);
    assert!(ready.text.contains("[-]undamaged failed"), "{}", ready.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_disk_is_full_what_is_there_goes_on_and_nothing_new_begins() {
    let (world, app) = World::ready(&[]).await;
    let kept = world.checkout(&app.token, "alice").send().await.expect(200);
    let given_back = world.checkout(&app.token, "bob").send().await.expect(200);
    raise(&world, AlarmKind::NoSpace, "9 MiB free").await;
    let denied = world.checkout(&app.token, "carol").send().await.expect(507);
    assert_eq!(denied["reason"], "no_space");
    let body =
        json!({ "name": "n", "product_id": crate::world::PRODUCT, "vendor_id": "vector-de" });
    let refused = world.post("/admin/apps").bearer(&world.admin).json(&body).send().await;
    assert_eq!(refused.expect(507)["code"], "no_space");
    world.heartbeat(&app.token, &kept).send().await.expect(200);
    world.give_back(&app.token, &given_back).send().await.expect(200);
    world.get("/admin/packages").bearer(&world.auditor).send().await.expect(200);
    world.token(&app, None).await.expect(200);
    let clear = world.ask(Method::DELETE, "/admin/alarms/1/NOSPACE").bearer(&world.operator);
    clear.send().await.expect(204);
    world.checkout(&app.token, "carol").send().await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alert_rules_and_dashboard_name_metrics_that_exist() {
    let (world, app) = World::ready(&[]).await;
    world.checkout(&app.token, "alice").send().await.expect(200);
    raise(&world, AlarmKind::Lag, "it is behind").await;
    let shown = world.get("/metrics").send().await.text;
    // Shown where the process or another node says so, which a gateway alone does not have.
    let elsewhere = ["leasehold_disk_free_bytes", "leasehold_disk_reserve_bytes"];
    let elsewhere = [&elsewhere[..], &["leasehold_backup_age_seconds"]].concat();
    for file in ["alerts.yaml", "dashboard.json"] {
        let path = format!("{}/../../deploy/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut names: Vec<&str> = words.filter(|word| word.starts_with("leasehold_")).collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() > 5, "{file}: {names:?}");
        for name in names.into_iter().filter(|name| !elsewhere.contains(name)) {
            let is_shown = shown.lines().any(|line| {
                let family = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next());
                family.is_some_and(|family| name.strip_prefix(family).is_some_and(is_suffix))
            });
            assert!(is_shown, "{file} names {name}");
        }
    }
}

fn is_suffix(rest: &str) -> bool {
    ["", "_total", "_bucket", "_sum", "_count"].contains(&rest)
}
