//! What is done to links between nodes. Clients reach every node meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use super::{Arena, Fault, HowMany, victims};
use crate::proxy::condition::Counted;
use crate::proxy::{Condition, Party};
use crate::rng::Rng;

/// Links, by who speaks and who hears.
type Links = BTreeSet<(u64, u64)>;

/// Disturbs some links for a while.
pub(super) async fn disturb(fault: Fault, arena: &Arena, rng: &mut Rng) -> Result<()> {
    let ids: Vec<u64> = arena.observer_ids();
    let (links, what) = match fault {
        Fault::Partition => partition(arena, rng, &ids).await,
        Fault::OneWay => one_way(arena, rng, &ids).await,
        _ => around_some(arena, rng, &ids).await,
    };
    let (condition, how) = match fault {
        Fault::Delay => late(rng),
        Fault::Drip => {
            let bytes_per_second = rng.between(400, 4_000);
            let how = format!("{bytes_per_second} bytes a second");
            (Condition { bytes_per_second, ..Condition::default() }, how)
        }
        _ => (Condition::cut(), "nothing passes".to_owned()),
    };
    // Shorter and longer than a failover takes.
    let hold = Duration::from_millis(rng.between(arena.election_ms, 5_000));
    let targets: Vec<u64> = links
        .iter()
        .flat_map(|(from, to)| [*from, *to])
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let before = counted(arena, &links);
    arena.start(fault, &targets, &format!("{what}: {how}, for {} ms", hold.as_millis()));
    for (from, to) in &links {
        arena.network.set(Party::Node(*from), Party::Node(*to), condition);
    }
    arena.hold(hold).await;
    let effect = counted(arena, &links).since(before);
    if effect.has_hurt() {
        arena.hit(fault, &targets, &in_words(effect));
    }
    for (from, to) in &links {
        arena.network.set(Party::Node(*from), Party::Node(*to), Condition::default());
    }
    arena.end(fault, &targets, "healed");
    Ok(())
}

impl Arena {
    /// Ids of the nodes that there are, without waiting for whoever changes processes.
    fn observer_ids(&self) -> Vec<u64> {
        self.observer.ids()
    }
}

fn counted(arena: &Arena, links: &Links) -> Counted {
    let of = |(from, to): &(u64, u64)| arena.network.effects(Party::Node(*from), Party::Node(*to));
    links.iter().map(of).fold(Counted::default(), Counted::plus)
}

fn in_words(effect: Counted) -> String {
    let parts = [
        (effect.held_back, "pieces held back"),
        (effect.delayed, "pieces delayed"),
        (effect.stalled, "pieces stalled"),
        (effect.reset, "connections reset"),
        (effect.dripped, "drops"),
    ];
    let said: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    said.join(", ")
}

/// Cut both ways.
async fn partition(arena: &Arena, rng: &mut Rng, ids: &[u64]) -> (Links, String) {
    match rng.below(4) {
        0 => {
            let alone = victims(arena, rng, ids, HowMany::Leader).await;
            (between(&alone, &others(ids, &alone)), format!("the leader {alone:?} alone"))
        }
        1 => {
            let alone = victims(arena, rng, ids, HowMany::One).await;
            (between(&alone, &others(ids, &alone)), format!("{alone:?} alone"))
        }
        2 => {
            let halves = rng.shuffled(ids);
            let (one, two) = halves.split_at(halves.len() / 2);
            (between(one, two), format!("{one:?} and {two:?}"))
        }
        _ => {
            // A bridge: one is heard by two sides that do not hear each other.
            let shuffled = rng.shuffled(ids);
            let (bridge, rest) = shuffled.split_at(1);
            let (one, two) = rest.split_at(rest.len() / 2);
            (between(one, two), format!("{one:?} and {two:?}, and {bridge:?} between"))
        }
    }
}

/// Cut one way.
async fn one_way(arena: &Arena, rng: &mut Rng, ids: &[u64]) -> (Links, String) {
    let how_many = if rng.percent(50) { HowMany::Leader } else { HowMany::One };
    let target = victims(arena, rng, ids, how_many).await;
    let rest = others(ids, &target);
    let whole = between(&target, &rest);
    let is_from = |link: &&(u64, u64)| target.contains(&link.0);
    match rng.below(3) {
        0 => (whole.iter().filter(is_from).copied().collect(), format!("{target:?} is not heard")),
        1 => (
            whole.iter().filter(|link| !is_from(link)).copied().collect(),
            format!("{target:?} does not hear"),
        ),
        _ => {
            let all: Vec<(u64, u64)> = whole.into_iter().collect();
            let link = rng.pick(&all).copied().unwrap_or((1, 1));
            (Links::from([link]), format!("{} does not hear {}", link.1, link.0))
        }
    }
}

/// All links, or those of one node.
async fn around_some(arena: &Arena, rng: &mut Rng, ids: &[u64]) -> (Links, String) {
    match rng.below(3) {
        0 => (between(ids, ids), "all links".to_owned()),
        1 => {
            let target = victims(arena, rng, ids, HowMany::Leader).await;
            (between(&target, &others(ids, &target)), format!("links of the leader {target:?}"))
        }
        _ => {
            let target = victims(arena, rng, ids, HowMany::One).await;
            (between(&target, &others(ids, &target)), format!("links of {target:?}"))
        }
    }
}

fn late(rng: &mut Rng) -> (Condition, String) {
    let delay_ms = *rng.pick(&[20, 50, 200, 400]).unwrap_or(&50);
    let jitter_ms = delay_ms / rng.between(1, 4);
    let lossy = rng.percent(50);
    let condition = Condition {
        delay: Duration::from_millis(delay_ms),
        jitter: Duration::from_millis(jitter_ms),
        stall_per_mille: if lossy { 40 } else { 0 },
        stall: Duration::from_millis(rng.between(200, 1_000)),
        reset_per_mille: if lossy { 5 } else { 0 },
        ..Condition::default()
    };
    let loss = if lossy { ", stalls and resets" } else { "" };
    (condition, format!("{delay_ms} ms and up to {jitter_ms} more{loss}"))
}

fn others(ids: &[u64], these: &[u64]) -> Vec<u64> {
    ids.iter().copied().filter(|id| !these.contains(id)).collect()
}

/// Links from each of one side to each of the other, and back.
fn between(one: &[u64], two: &[u64]) -> Links {
    let mut links = Links::new();
    for from in one {
        for to in two.iter().filter(|to| *to != from) {
            links.insert((*from, *to));
            links.insert((*to, *from));
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_cut_from_the_other_both_ways_and_not_from_itself() {
        assert_eq!(between(&[1], &[2, 3]), Links::from([(1, 2), (2, 1), (1, 3), (3, 1)]));
        assert_eq!(between(&[1, 2], &[1, 2]), Links::from([(1, 2), (2, 1)]));
        assert_eq!(others(&[1, 2, 3], &[2]), [1, 3]);
    }

    #[test]
    fn effects_are_told_in_words() {
        let effect = Counted { held_back: 3, reset: 1, passed: 9, ..Counted::default() };
        assert_eq!(in_words(effect), "3 pieces held back, 1 connections reset");
        assert!(effect.has_hurt() && !Counted { passed: 9, ..Counted::default() }.has_hurt());
    }
}
