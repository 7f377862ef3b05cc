//! What one call costs inside the gateway: no network, no TLS, one node. Run by hand:
//! `cargo test --release -p gateway --test it -- --ignored --nocapture`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};
use tokio::task::JoinSet;

use crate::world::World;

const CALLERS: usize = 64;
const CALLS: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn checkouts_and_heartbeats() {
    let world = World::unsealed().await;
    world.pin_vendor().await.expect(201);
    let mut package: Value = world.sample(&[]);
    package.as_object_mut().expect("an object").remove("vendor_signature");
    package["entitlement"]["total_licenses"] = json!(1_000_000);
    package["entitlement"]["commit_qty"] = json!(1_000_000);
    world.import(&world.sign(&package.to_string())).await.expect(201);
    let token = world.register().await.token;
    let world = Arc::new(world);
    let lease = world.checkout(&token, "alice").send().await.expect(200);
    for what in ["checkout", "show"] {
        let (clock, cpu_ms) = (RealClock::new(), cpu_ms());
        let next = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (world, next, token) = (world.clone(), next.clone(), token.clone());
            let path = format!("/api/v1/licenses/{}", lease["lease_id"].as_str().expect("an id"));
            callers.spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < CALLS {
                    match what {
                        "checkout" => world.checkout(&token, "alice").send().await.expect(200),
                        _ => world.get(&path).bearer(&token).send().await.expect(200),
                    };
                }
            });
        }
        callers.join_all().await;
        let seconds = clock.monotonic_ns() as f64 / 1e9;
        let cpu_us = (self::cpu_ms() - cpu_ms) * 1_000 / CALLS as u64;
        println!("{what}: {:.0} /s, {cpu_us} us of processor each", CALLS as f64 / seconds);
    }
}

/// Processor time of this process, from the kernel's ticks of 10 ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    (ticks(12) + ticks(13)) * 10
}
