//! Small histories of one package, good and bad: each rule of the model broken once, and the same
//! history a seat or a moment to the other side.

use super::*;
use crate::check::sample;
use crate::evidence::Evidence;
use crate::history::Header;

fn check_with(header: Header, want: bool, text: &str) {
    let run = sample::with(header, text, Evidence::default());
    assert!(run.breaches.is_empty(), "{text}\n{:?}", run.breaches);
    let found = linearizable(&run, &Options::default());
    assert_eq!(found.judgement == Judgement::Valid, want, "{text}\n{found:?}");
    assert_eq!(found.smallest.is_none(), want, "{text}");
}

/// One commit seat and one overage seat, unless it says otherwise.
fn check(want: bool, text: &str) {
    check_with(sample::header(), want, text);
}

#[test]
fn seats_are_commit_first_then_overage_then_none() {
    check(true, "0..5 take k1 -> L1\n 6..9 take k2 -> L2 overage\n 10..12 take k3 -> full");
    check(false, "0..5 take k1 -> L1 overage");
    check(false, "0..5 take k1 -> full");
    check(false, "0..5 take k1 -> L1\n 6..9 take k2 -> full");
    check(false, "0..5 take k1 -> L1\n 6..9 take k2 -> L2\n");
    check(false, "0..5 take k1 -> L1\n 6..9 take k2 -> L2 overage\n 10..12 take k3 -> L3 overage");
    check(
        true,
        "0..5 take k1 -> L1\n 6..9 take k2 -> L2 overage\n 9..12 give L1 -> ok
         13..15 take k3 -> L3",
    );
    check(
        false,
        "0..5 take k1 -> L1\n 6..9 take k2 -> L2 overage\n 9..12 give L1 -> ok
         13..15 take k3 -> L3 overage",
    );
    // Under way together: either order.
    check(true, "0..5 take k1 -> L1 overage fence=2\n 4..9 take k2 -> L2 fence=1");
    check(false, "0..5 take k1 -> L1 overage fence=2\n 6..9 take k2 -> L2 fence=1");
    // Two seats of a class that has one.
    check(true, "0..5 take k1 seats=2 -> full");
    check(false, "0..5 take k1 seats=2 -> L1");
}

#[test]
fn fences_rise_in_the_order_of_grants() {
    check(true, "0..5 take k1 -> L1 fence=1\n 6..9 take k2 -> L2 overage fence=2");
    check(false, "0..5 take k1 -> L1 fence=2\n 6..9 take k2 -> L2 overage fence=1");
    check(false, "0..5 take k1 -> L1 fence=2\n 4..9 take k2 -> L2 overage fence=1");
}

#[test]
fn a_lease_expires_no_earlier_than_it_may() {
    // A lease of 1,000 ms lives 988.02 ms at least.
    let full = "0..5 take k1 -> L1\n 0..5 take k2 -> L2 overage\n";
    check(true, &format!("{full} 900..989 take k3 -> L3"));
    check(false, &format!("{full} 900..988 take k3 -> L3"));
    check(true, &format!("{full} 900..988 take k3 -> full"));
    // It may live on as long as it likes; late-expiry is another checker's.
    check(true, &format!("{full} 5000..5001 take k3 -> full"));
    // A renewal counts from when it was asked.
    check(false, &format!("{full} 500..510 keep L1 1 -> 2\n 900..1400 keep L1 2 -> ended"));
    check(true, &format!("{full} 500..510 keep L1 1 -> 2\n 900..1490 keep L1 2 -> ended"));
    // What has ended does not come back.
    check(false, &format!("{full} 990..991 look L1 -> dead\n 992..993 look L1 -> live"));
    check(false, &format!("{full} 990..991 look L1 -> dead\n 992..993 keep L1 1 -> 2"));
    check(false, &format!("{full} 990..991 keep L1 1 -> ended\n 992..993 read -> 2"));
    check(true, &format!("{full} 990..991 keep L1 1 -> ended\n 992..993 read -> 1 live=L2"));
    // What somebody saw alive later had not ended before.
    check(true, &format!("{full} 990..999 read -> 1\n 992..995 look L1 -> live"));
    check(false, &format!("{full} 990..991 read -> 1 live=L2\n 992..995 look L1 -> live"));
}

#[test]
fn renewal_tokens_are_good_once() {
    let taken = "0..5 take k1 -> L1\n";
    check(true, &format!("{taken} 6..7 keep L1 1 -> 2\n 8..9 keep L1 2 -> 3"));
    check(false, &format!("{taken} 6..7 keep L1 1 -> 1"));
    check(false, &format!("{taken} 6..7 keep L1 2 -> 3"));
    // The one before gets the same answer again, and extends nothing.
    let twice = format!("{taken} 6..7 keep L1 1 -> 2\n 600..601 keep L1 1 -> 2\n");
    check(true, &twice);
    check(true, &format!("{twice} 700..999 keep L1 2 -> ended"));
    check(false, &format!("{taken} 6..7 keep L1 1 -> 2\n 8..9 keep L1 1 -> 3"));
    // Two before is a replay, and must be refused.
    let older = format!("{taken} 6..7 keep L1 1 -> 2\n 8..9 keep L1 2 -> 3\n");
    check(true, &format!("{older} 10..11 keep L1 1 -> replayed"));
    check(false, &format!("{older} 10..11 keep L1 1 -> 3"));
    check(false, &format!("{older} 10..11 keep L1 3 -> replayed"));
    // One before is refused only when it is 30 s old.
    check(false, &format!("{older} 10..11 keep L1 2 -> replayed"));
    let mut header = sample::header();
    header.packages[0].ttl_ms = 90_000;
    let kept = "0..5 take k1 -> L1\n 6..7 keep L1 1 -> 2\n";
    check_with(header.clone(), false, &format!("{kept} 29000..29700 keep L1 1 -> replayed"));
    check_with(header, true, &format!("{kept} 29000..29710 keep L1 1 -> replayed"));
    // Where tokens are not rotated.
    let mut header = sample::header();
    header.packages[0].rotation = false;
    check_with(header.clone(), true, &format!("{taken} 6..7 keep L1 1 -> 1\n 8..9 keep L1 1 -> 1"));
    check_with(header, false, &format!("{taken} 6..7 keep L1 1 -> 2"));
}

#[test]
fn a_lost_answer_may_have_happened_or_not() {
    let taken = "0..5 take k1 -> L1\n";
    check(true, &format!("{taken} 6..? keep L1 1\n 8..9 keep L1 1 -> 2"));
    check(true, &format!("{taken} 6..? keep L1 1\n 8..9 keep L1 2 -> 3"));
    check(false, &format!("{taken} 6..7 keep L1 1 -> fail\n 8..9 keep L1 2 -> 3"));
    // A checkout that nobody heard of may hold a seat, and may end it.
    check(true, "0..? take k1\n 6..9 take k2 -> L2 overage");
    check(true, "0..? take k1\n 6..9 take k2 -> L2");
    check(false, "0..9 take k1 -> fail\n 6..9 take k2 -> L2 overage");
    check(true, "0..? take k1\n 6..9 take k2 -> L2 overage\n 800..1005 take k3 -> L3");
    check(true, "0..? take k1\n 6..9 take k1 -> L1\n 10..12 take k2 -> L2 overage");
    // A return may still arrive.
    check(true, &format!("{taken} 6..? give L1\n 8..9 keep L1 1 -> 2\n 10..11 keep L1 2 -> ended"));
    check(false, &format!("{taken} 6..7 give L1 -> fail\n 10..11 keep L1 2 -> ended"));
}

#[test]
fn a_key_makes_one_lease() {
    let taken = "0..5 take k1 -> L1\n";
    check(true, &format!("{taken} 6..9 take k1 -> L1"));
    check(false, &format!("{taken} 6..9 take k1 -> L1 overage"));
    check(false, &format!("{taken} 6..9 take k1 -> L2 overage"));
    check(false, &format!("{taken} 6..9 take k1 -> full"));
    check(true, &format!("{taken} 6..7 keep L1 1 -> 2\n 8..9 take k1 -> L1 seq=2"));
    check(false, &format!("{taken} 6..7 keep L1 1 -> 2\n 8..9 take k1 -> L1 seq=1"));
    check(true, &format!("{taken} 6..7 give L1 -> ok\n 8..9 take k1 -> ended"));
    check(false, &format!("{taken} 6..7 give L1 -> ok\n 8..9 take k1 -> L1"));
    check(false, &format!("{taken} 8..9 take k1 -> ended"));
    // A repeat gives no more time: that was counted from the first attempt.
    check(true, &format!("{taken} 500..505 take k1 -> L1\n 900..989 keep L1 1 -> ended"));
}

#[test]
fn a_return_is_done_once_and_answered_alike() {
    let given = "0..5 take k1 -> L1\n 6..7 give L1 -> ok\n";
    check(true, &format!("{given} 8..9 give L1 -> ok"));
    check(true, &format!("{given} 8..9 give L1 key=other -> already"));
    check(false, &format!("{given} 8..9 give L1 key=other -> ok"));
    check(false, &format!("{given} 8..9 give L1 -> already"));
    check(false, &format!("{given} 8..9 read -> 1"));
    check(false, "0..5 take k1 -> L1\n 6..7 give L1 -> already");
    check(false, "0..5 take k1 -> L1\n 6..7 give L1 -> unknown_lease");
    check(true, "0..5 take k1 -> L1\n 6..999 give L1 -> already");
}

#[test]
fn a_borrowed_lease_lives_until_the_borrow_ends() {
    let borrowed = "0..5 take k1 -> L1\n 6..7 borrow L1 5000 -> ok\n";
    check(false, &format!("{borrowed} 1500..1600 look L1 -> dead"));
    check(true, &format!("{borrowed} 4000..5000 look L1 -> dead"));
    // Neither a renewal nor a repeat of the borrow shortens it.
    check(false, &format!("{borrowed} 8..9 keep L1 2 -> 3\n 1500..1600 look L1 -> dead"));
    check(false, &format!("{borrowed} 8..9 borrow L1 5000 -> ok\n 1500..1600 look L1 -> dead"));
    check(false, &format!("{borrowed} 8..9 keep L1 3 -> 4"));
    // One whose answer was lost may have been done already when it is asked for again.
    let lost = "0..5 take k1 -> L1\n 6..? borrow L1 5000 key=lost\n 8..9 borrow L1 5000 -> ok\n";
    check(true, &format!("{lost} 10..11 keep L1 2 -> 3"));
    check(true, &format!("{lost} 10..11 keep L1 3 -> 4"));
    check(false, &format!("{lost} 10..11 keep L1 4 -> 5"));
    check(
        false,
        &format!("{borrowed} 8..9 borrow L1 5000 key=other -> ok\n 10..11 keep L1 4 -> 5"),
    );
    // A renewal whose term outlasts the borrow may have ended it.
    let early = format!("{borrowed} 3000..3001 keep L1 2 -> 3\n");
    check(false, &format!("{early} 3002..3003 unborrow L1 -> not_borrowed"));
    let late = format!("{borrowed} 4500..4501 keep L1 2 -> 3\n");
    check(true, &format!("{late} 4502..4503 unborrow L1 -> not_borrowed"));
    check(true, &format!("{late} 4502..4503 unborrow L1 -> ok\n 4504..4505 keep L1 4 -> 5"));
    check(true, &format!("{borrowed} 4500..? keep L1 2\n 4502..4503 unborrow L1 -> not_borrowed"));
    check(
        false,
        &format!(
            "{late} 4502..4503 borrow L1 5000 key=other -> ok
             4504..4505 unborrow L1 -> not_borrowed"
        ),
    );
    // Given up, it is a lease as any other.
    let given_up = format!("{borrowed} 10..11 unborrow L1 -> ok\n");
    check(true, &format!("{given_up} 1000..1005 look L1 -> dead"));
    check(false, &format!("{given_up} 900..990 look L1 -> dead"));
    check(true, &format!("{given_up} 12..13 keep L1 3 -> 4"));
    check(false, "0..5 take k1 -> L1\n 6..7 borrow L1 5000 -> not_borrowed\n 7..8 look L1 -> dead");
    check(true, "0..5 take k1 -> L1\n 6..7 unborrow L1 -> not_borrowed");
    check(false, &format!("{borrowed} 8..9 unborrow L1 -> not_borrowed"));
    check(
        true,
        &format!(
            "{borrowed} 8..? unborrow L1 key=lost\n 10..11 unborrow L1 -> ok
             12..13 keep L1 3 -> 4"
        ),
    );
    // Where it is known how long the seat is kept after the token.
    let mut header = sample::header();
    header.packages[0].offline_skew_ms = 3000;
    check_with(header.clone(), false, &format!("{borrowed} 5000..7900 look L1 -> dead"));
    check_with(header, true, &format!("{borrowed} 5000..7950 look L1 -> dead"));
}

#[test]
fn reads_tell_of_one_state() {
    let two = "0..5 take k1 -> L1\n 6..9 take k2 -> L2 overage\n";
    check(true, &format!("{two} 3..7 read -> 1\n 10..11 read -> 2 live=L1,L2"));
    check(false, &format!("{two} 10..11 read -> 1"));
    check(false, &format!("{two} 10..11 read -> 2 of=3"));
    check(false, &format!("{two} 10..11 read -> 2 live=L1"));
    check(false, &format!("{two} 10..11 read -> 2 live=L1,L9"));
    check(true, &format!("{two} 10..11 stale -> 0"));
    // Two reads that saw the two grants in different orders.
    let both = "0..9 take k1 -> L1 fence=1\n 0..9 take k2 -> L2 overage fence=2\n";
    check(true, &format!("{both} 2..3 read -> 1 live=L1\n 4..5 read -> 2"));
    check(false, &format!("{both} 2..3 read -> 1 live=L2\n 4..5 read -> 2"));
    check(false, &format!("{both} 2..3 read -> 2\n 4..5 read -> 1"));
}

#[test]
fn seats_of_pools_are_their_own() {
    let mut header = sample::header();
    (header.packages[0].commit, header.packages[0].overage) = (3, 0);
    header.packages[0].pools = vec![("a".to_owned(), 1), ("b".to_owned(), 1)];
    let check = |want, text: &str| check_with(header.clone(), want, text);
    let taken = "0..5 take k1 pool=a -> L1\n";
    check(true, &format!("{taken} 6..7 take k2 pool=a -> poolfull"));
    check(false, &format!("{taken} 6..7 take k2 pool=a -> full"));
    check(false, &format!("{taken} 6..7 take k2 pool=a -> L2"));
    check(
        true,
        &format!("{taken} 6..7 take k2 pool=b -> L2\n 8..9 take k3 -> L3\n 10..11 take k4 -> full"),
    );
    check(false, &format!("{taken} 6..7 take k2 -> poolfull"));
    check(true, &format!("{taken} 6..7 pools -> a:1:1,b:1:0"));
    check(false, &format!("{taken} 6..7 pools -> a:1:0,b:1:0"));
    check(false, &format!("{taken} 6..7 pools -> a:1:1"));
    // Free seats move; taken ones do not.
    check(true, &format!("{taken} 6..7 move a b 1 -> few"));
    check(false, &format!("{taken} 6..7 move a b 1 -> ok"));
    let moved = format!("{taken} 6..7 move b a 1 -> ok\n");
    check(true, &format!("{moved} 8..9 pools -> a:2:1\n 10..11 take k2 pool=a -> L2"));
    check(false, &format!("{moved} 8..9 pools -> a:1:1,b:1:0"));
    check(true, &format!("{moved} 8..9 move b a 1 -> ok\n 10..11 pools -> a:2:1"));
    check(false, &format!("{moved} 8..9 move b a 1 key=other -> ok"));
    check(true, &format!("{taken} 6..7 move - c 1 -> ok\n 8..9 pools -> a:1:1,b:1:0,c:1:0"));
    check(
        true,
        &format!(
            "{taken} 6..? move b a 1\n 8..9 take k2 pool=a -> poolfull
             10..11 take k3 pool=a -> L3"
        ),
    );
}

#[test]
fn the_search_gives_up_when_it_may_look_no_longer() {
    let text = "0..9 take k1 -> L1\n 0..9 take k2 -> L2 overage\n 10..11 read -> 1";
    let options = Options { search_configurations: 0, ..Options::default() };
    let found = linearizable(&sample::run(text), &options);
    assert_eq!(found.judgement, Judgement::Unknown, "{found:?}");
}
