//! How fast three nodes in one process are; not a test, so it runs only when asked for:
//! `cargo test --release -p raft -- --ignored --nocapture rate`.

use std::time::Duration;

use storage::seam::{Clock, RealClock};
use tokio::task::JoinSet;

use crate::world::{World, checkout};

const SECONDS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rate_of_checkouts() {
    for clients in [1_u64, 16, 64, 256] {
        let world = World::ready(3, 10_000_000, 900_000).await;
        let at = world.leader().await;
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let cluster = world.node(at).clone();
            tasks.spawn(async move {
                let clock = RealClock::new();
                let mut latencies_ns = Vec::new();
                while clock.monotonic_ns() < SECONDS * 1_000_000_000 {
                    let number = client << 32 | latencies_ns.len() as u64;
                    let began_ns = clock.monotonic_ns();
                    let commands = vec![checkout(&number.to_string(), at, number)];
                    cluster.submit(commands, Duration::from_secs(20)).await.unwrap();
                    latencies_ns.push(clock.monotonic_ns() - began_ns);
                }
                latencies_ns
            });
        }
        let mut latencies_ns = tasks.join_all().await.concat();
        latencies_ns.sort_unstable();
        let count = latencies_ns.len();
        let metrics = world.node(at).metrics();
        println!(
            "{clients:>4} clients: {:>6}/s, p50 {:.1} ms, p99 {:.1} ms, {:.1} per entry, \
             {} leader changes",
            count as u64 / SECONDS,
            latencies_ns[count / 2] as f64 / 1e6,
            latencies_ns[count * 99 / 100] as f64 / 1e6,
            metrics.commands_proposed as f64 / metrics.entries_proposed as f64,
            metrics.leader_changes,
        );
    }
}
