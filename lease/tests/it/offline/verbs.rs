//! Tables of commands about offline use, the classic face and budgets.

use lease::invariants::{Before, check_all};

use crate::script::{check, check_in};
use crate::world::World;

/// A package that may be used offline: tokens for ten seconds of skew, borrows of up to an hour.
const BETA: &str = "entitle beta davinci 2 2 total=3 ttl=+60s skew=+10s tokens=1 borrow=+1h \
                    seats=2 reserve=1 -> imported";

#[track_caller]
fn check_beta(script: &str) {
    check(&format!("{BETA}\n{script}"));
}

#[test]
fn a_renewal_holds_its_lease_for_the_token() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         hold L1                          -> -
         time +20s
         heartbeat L1:1                   -> seq=2 in=60s token v1 for=60s
         hold L1                          -> v1 ends=60s skew=10s
         time +5s
         heartbeat L1:1                   -> seq=2 in=55s token v1 for=55s  # lost: the same token
         heartbeat L1:2:idle              -> seq=2 in=55s token v1 for=55s
         heartbeat L1:2                   -> seq=3 in=60s token v2 for=60s
         held beta                        -> held 1 borrowed 0
         release L1                       -> no OfflineTokenOutstanding
         return L1                        -> cost=0 held=25s
         held beta                        -> held 0 borrowed 0
         seats beta                       -> commit 0+2 overage 0+2 total+3 -:0/3",
    );
}

/// A borrow ends at its civil time, however the two clocks move against each other.
#[test]
fn a_renewal_does_not_lengthen_a_borrow() {
    for (led, civil, left) in
        [("+9s", "+10s", 1790), ("+10s", "+9s", 1791), ("+0s", "+20m", 600), ("+20m", "+0s", 1800)]
    {
        let mut world = crate::script::check_in(
            crate::world::World::ready(),
            &format!(
                "{BETA}
                 checkout L1 beta             -> commit seq=1 in=60s
                 borrow L1:1 +30m             -> borrowed seq=2 in=1800s token v1 for=1800s
                 time led={led} civil={civil}"
            ),
        );
        crate::script::say(&mut world, "heartbeat L1:2");
        let hold = crate::script::say(&mut world, "hold L1");
        assert_eq!(hold, format!("v2 ends={left}s skew=10s borrowed"), "{led} {civil}");
    }
}

/// When seats lapse whose tokens are out, those too many end with the tokens they have.
#[test]
fn seats_that_lapsed_get_no_further_tokens() {
    check(
        "entitle beta davinci 2 0 total=3 extra=1 commit_until=+90s ttl=+60s skew=+10s tokens=1 \
             borrow=+1h -> imported
         checkout L1 beta                 -> commit seq=1 in=60s
         checkout L2 beta                 -> commit seq=1 in=60s
         checkout L3 beta                 -> commit seq=1 in=60s
         time +50s
         heartbeat L1:1 L2:1 L3:1         -> \
             seq=2 in=60s token v1 for=40s; seq=2 in=60s token v1 for=40s; \
             seq=2 in=60s token v1 for=40s
         time +41s
         heartbeat L1:2                   -> seq=3 in=60s
         borrow L2:2 +5s                  -> no BorrowLimitReached
         hold L1                          -> v1 ends=-1s skew=10s
         time +9s
         seats beta                       -> commit 3+0 overage 0+0 total+0 -:3/3
         time +1ms
         seats beta                       -> commit 1+0 overage 0+0 total+2 -:1/3
         heartbeat L2:2                   -> no LeaseEnded
         heartbeat L1:3                   -> seq=4 in=60s token v1 for=60s",
    );
}

/// Without rotation a token is good until the lease ends; what it did once it does not do again.
#[test]
fn a_borrow_is_returned_once_without_rotation_too() {
    check(
        "entitle beta davinci 2 0 ttl=+60s skew=+10s tokens=1 borrow=+1h rotation=0 -> imported
         checkout L1 beta                 -> commit seq=1 in=60s
         unborrow L1:1                    -> no NotBorrowed
         borrow L1:1 +30m                 -> borrowed seq=1 in=1800s token v1 for=1800s
         heartbeat L1:1                   -> seq=1 in=1800s token v2 for=1800s
         unborrow L1:1                    -> seq=2 in=60s token v3 for=60s
         time +5s
         unborrow L1:1                    -> seq=2 in=55s token v3 for=55s  # lost: the same
         borrow L1:1 +30m                 -> no RenewalTokenReplayed        # late
         hold L1                          -> v3 ends=55s skew=10s
         unborrow L1:2                    -> no NotBorrowed
         time +26s
         borrow L1:1 +30m                 -> borrowed seq=2 in=1800s token v4 for=1800s
         heartbeat L1:1                   -> seq=2 in=1800s token v5 for=1800s
         unborrow L1:2                    -> seq=3 in=60s token v6 for=60s
         borrow L1:3 +30m                 -> borrowed seq=3 in=1800s token v7 for=1800s",
    );
}

/// Letters beyond ASCII are told apart by case, whatever the toolchain knows of them.
#[test]
fn parties_are_compared_by_ascii_letters() {
    check_beta(
        "rules beta include=user:\u{c4}nNa
         checkout L1 beta user=\u{e4}nna    -> commit seq=1 in=60s
         borrow L1:1 +1m                  -> no BorrowExcluded
         checkout L2 beta user=\u{c4}NNA    -> commit seq=1 in=60s
         borrow L2:1 +1m                  -> borrowed seq=2 in=60s token v1 for=60s",
    );
}

/// Seats that are not there yet, or no longer, are left for nobody.
#[test]
fn the_reserve_is_of_seats_that_are_there() {
    check(
        "entitle beta davinci 2 0 total=3 extra=1 commit_until=+90s ttl=+60s skew=+10s borrow=+1h \
             reserve=1 -> imported
         checkout L1 beta                 -> commit seq=1 in=60s
         borrow L1:1 +30s                 -> borrowed seq=2 in=60s token v1 for=30s
         checkout L2 beta                 -> commit seq=1 in=60s
         borrow L2:1 +30s                 -> borrowed seq=2 in=60s token v1 for=30s
         return L1                        -> cost=0 held=0s
         return L2                        -> cost=0 held=0s
         time +91s
         checkout L3 beta                 -> commit seq=1 in=60s
         borrow L3:1 +30s                 -> no OnlineReserve",
    );
}

/// One command lets go of no more holds than a sweep does in one entry.
#[test]
fn a_borrow_does_bounded_work() {
    use crate::world::{World, register, vendor};
    use lease::command::Command;
    use lease::limits::LedgerLimits;

    let limits = LedgerLimits { expiries_per_entry: 1, ..LedgerLimits::PRODUCTION };
    let mut world = World::founded(limits);
    world.root(Command::PinVendor(vendor("vector-de")));
    let entitle = "entitle beta davinci 9 0 ttl=+60s skew=+0s borrow=+1h -> imported";
    let mut world = crate::script::check_in(world, entitle);
    world.root(register(1, "davinci"));
    crate::script::check_in(
        world,
        "checkout L1 beta                 -> commit seq=1 in=60s
         checkout L2 beta                 -> commit seq=1 in=60s
         checkout L3 beta                 -> commit seq=1 in=60s
         checkout L4 beta                 -> commit seq=1 in=60s
         checkout L5 beta                 -> commit seq=1 in=60s
         borrow L1:1 +1s                  -> borrowed seq=2 in=60s token v1 for=1s
         borrow L2:1 +1s                  -> borrowed seq=2 in=60s token v1 for=1s
         borrow L3:1 +1s                  -> borrowed seq=2 in=60s token v1 for=1s
         borrow L4:1 +1s                  -> borrowed seq=2 in=60s token v1 for=1s
         time +2s                         # the entry lets go of one
         held beta                        -> held 3 borrowed 3
         borrow L5:1 +1s                  -> borrowed seq=2 in=60s token v1 for=1s
         held beta                        -> held 2 borrowed 2 # the entry of one, it of one",
    );
}

#[test]
fn a_held_lease_ends_when_both_clocks_have_passed() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         heartbeat L1:1                   -> seq=2 in=60s token v1 for=60s
         due                              -> 60000 70001
         time led=+61s civil=+1s
         due                              -> - 69001                  # not now, again and again
         seats beta                       -> commit 1+1 overage 0+2 total+2 -:1/3
         release L1                       -> no OfflineTokenOutstanding
         time civil=+69s
         seats beta                       -> commit 1+1 overage 0+2 total+2 -:1/3
         time civil=+1ms
         seats beta                       -> commit 0+2 overage 0+2 total+3 -:0/3
         heartbeat L1:2                   -> no LeaseEnded
         due                              -> - -
         checkout L2 beta                 -> commit seq=1 in=60s
         heartbeat L2:1                   -> seq=2 in=60s token v1 for=60s
         time led=+1s civil=+71s
         hold L2                          -> -
         due                              -> 59000 31535859000         # an ordinary lease again
         heartbeat L2:2                   -> seq=3 in=60s token v1 for=60s
         time led=+61s civil=+1s
         heartbeat L2:3                   -> seq=4 in=60s token v2 for=60s",
    );
}

#[test]
fn a_package_or_seat_that_ends_ends_its_tokens() {
    check(
        "entitle beta davinci 2 2 commit_until=+90s until=+140s ttl=+60s skew=+10s tokens=1 \
            borrow=+1h -> imported
         checkout L1 beta                 -> commit seq=1 in=60s
         checkout L2 beta                 -> commit seq=1 in=60s
         time +50s
         heartbeat L1:1 L2:1              -> seq=2 in=60s token v1 for=40s; seq=2 in=60s token \
             v1 for=40s
         borrow L1:2 +41s                 -> no BorrowTooLong
         borrow L1:2 +40s                 -> borrowed seq=3 in=60s token v2 for=40s
         time +45s
         seats beta                       -> commit 2+0 overage 0+2 total+2 -:2/4
         due                              -> 15000 5001
         return L1                        -> cost=0 held=95s
         time +5001ms
         seats beta                       -> commit 0+0 overage 0+2 total+4 -:0/4
         checkout L3 beta                 -> overage seq=1 in=40s cost=500.0
         heartbeat L3:1                   -> seq=2 in=40s token v1 for=39.999s
         suspend beta
         heartbeat L3:2                   -> no PackageSuspended
         borrow L3:2 +10s                 -> no PackageSuspended
         resume beta
         time +40s
         heartbeat L3:2                   -> no LeaseEnded
         seats beta                       -> commit 0+0 overage 0+2 total+4 -:0/4",
    );
}

#[test]
fn borrowing_holds_a_seat_to_a_civil_time() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         borrow L1:7 +60s                 -> no RenewalTokenReplayed
         borrow L1:1 +3601s               -> no BorrowTooLong
         borrow L1:1 +0s                  -> no LimitReached
         borrow L1:1 +60s app=2           -> no CredentialsRevoked
         borrow L1:1 +30m                 -> borrowed seq=2 in=1800s token v1 for=1800s
         time +10s
         borrow L1:1 +30m                 -> borrowed seq=2 in=1790s token v1 for=1790s # lost
         unborrow L1:1                    -> no RenewalTokenReplayed
         hold L1                          -> v1 ends=1790s skew=10s borrowed
         borrow L1:2 +1m                  -> borrowed seq=3 in=1790s token v2 for=1790s # no shorter
         borrow L1:3 +1h                  -> borrowed seq=4 in=3600s token v3 for=3600s
         heartbeat L1:4                   -> seq=5 in=3600s token v4 for=3600s
         held beta                        -> held 1 borrowed 1
         release L1                       -> no OfflineTokenOutstanding
         time led=+2h civil=+3600s
         held beta                        -> held 1 borrowed 1
         heartbeat L1:5                   -> seq=6 in=60s token v5 for=60s
         held beta                        -> held 1 borrowed 0",
    );
}

#[test]
fn a_borrow_is_returned_early() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         unborrow L1:1                    -> no NotBorrowed
         borrow L1:1 +30m                 -> borrowed seq=2 in=1800s token v1 for=1800s
         time +10s
         unborrow L1:2                    -> seq=3 in=60s token v2 for=60s
         unborrow L1:2                    -> seq=3 in=60s token v2 for=60s # lost
         unborrow L1:3                    -> no NotBorrowed
         hold L1                          -> v2 ends=60s skew=10s
         borrow L1:3 +30m                 -> borrowed seq=4 in=1800s token v3 for=1800s
         return L1                        -> cost=0 held=10s
         seats beta                       -> commit 0+2 overage 0+2 total+3 -:0/3
         unborrow L1:4                    -> no LeaseEnded
         borrow L1:4 +1m                  -> no LeaseEnded
         entitle gamma davinci 2 0 ttl=+60s skew=+10s borrow=+1h -> imported
         checkout L2 gamma                -> commit seq=1 in=60s
         heartbeat L2:1                   -> seq=2 in=60s
         borrow L2:2 +30m                 -> borrowed seq=3 in=1800s token v1 for=1800s
         heartbeat L2:3                   -> seq=4 in=1800s token v1 for=1800s # kept, not \
             lengthened
         unborrow L2:4                    -> seq=5 in=60s
         hold L2                          -> -
         release L2",
    );
}

/// Whoever looks at the ledger now and then sees both at once: a snapshot came between.
#[test]
fn a_borrow_that_was_returned_early_runs_out_like_any_lease() {
    let world = check_in(
        World::ready(),
        "entitle gamma davinci 2 0 ttl=+60s skew=+10s borrow=+1h -> imported
         checkout L1 gamma                -> commit seq=1 in=60s
         borrow L1:1 +30m                 -> borrowed seq=2 in=1800s token v1 for=1800s",
    );
    let before = Before::of(&world.ledger);
    let world = check_in(
        world,
        "unborrow L1:2                    -> seq=3 in=60s
         time +61s
         heartbeat L1:3                   -> no LeaseEnded",
    );
    check_all(&before, &world.ledger).expect("every rule holds");
}

#[test]
fn borrowing_has_caps() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         checkout L2 beta qty=2           -> overage seq=1 in=60s cost=1000.0
         borrow L2:1 +1m                  -> borrowed seq=2 in=60s token v1 for=60s
         borrow L1:1 +1m                  -> no BorrowLimitReached
         borrow L2:2 +2m                  -> borrowed seq=3 in=120s token v2 for=120s # its own
         rules beta max=+90s
         borrow L2:3 +91s                 -> no BorrowTooLong
         rules beta seats=1
         borrow L2:3 +90s                 -> no BorrowLimitReached
         rules beta reserve=2
         borrow L2:3 +90s                 -> no OnlineReserve
         rules beta max=+9h seats=9 reserve=0 exclude=host:WKS-1
         borrow L2:3 +90s                 -> no BorrowExcluded
         rules beta include=user:bert,host:x
         borrow L2:3 +90s                 -> no BorrowExcluded
         rules beta include=user:ANNA exclude=host:x
         borrow L2:3 +2h                  -> no BorrowTooLong
         borrow L2:3 +90s                 -> borrowed seq=4 in=120s token v3 for=120s
         rules beta
         rules beta                       -> unchanged
         rules nowhere                    -> no UnknownPackage
         checkout L3                      -> commit seq=1 in=900s
         borrow L3:1 +1m                  -> no OfflineNotAllowed
         audit                            -> PackageImported LeaseGranted LeaseGranted \
             LeaseBorrowed Refused LeaseBorrowed BorrowRulesSet Refused BorrowRulesSet \
             BorrowRulesSet Refused BorrowRulesSet Refused BorrowRulesSet BorrowRulesSet \
             LeaseBorrowed BorrowRulesSet Refused LeaseGranted Refused",
    );
}

#[test]
fn a_lost_device_is_written_off() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         borrow L1:1 +30m                 -> borrowed seq=2 in=1800s token v1 for=1800s
         writeoff L1 as=a1                -> no RoleTooNarrow
         writeoff L1
         writeoff L1                      -> no AlreadyEnded
         seats beta                       -> commit 0+2 overage 0+2 total+3 -:0/3
         usage beta                       -> checkouts 1+0 charged 0 peak 1 ends 0+0+1 sessions \
             0 0s files 0 other 0
         heartbeat L1:2                   -> no LeaseEnded
         return L1                        -> no AlreadyEnded
         audit                            -> PackageImported LeaseGranted LeaseBorrowed Refused \
             LeaseWrittenOff Refused Refused Refused",
    );
}

#[test]
fn a_revoked_package_ends_what_is_held() {
    check_beta(
        "checkout L1 beta                 -> commit seq=1 in=60s
         borrow L1:1 +30m                 -> borrowed seq=2 in=1800s token v1 for=1800s
         revoke beta
         hold L1                          -> -
         heartbeat L1:2                   -> no LeaseEnded
         seats beta                       -> commit 0+2 overage 0+2 total+3 -:0/3
         import beta davinci 2 2          -> no PackageIdTaken",
    );
}

#[test]
fn the_classic_face_takes_and_returns_seats() {
    check(
        "entitle beta matlab 1 1 ttl=+60s -> imported
         classic L1 beta ttl=+1h key=a    -> commit seq=1 in=3600s
         classic L9 beta ttl=+1h key=a    -> commit seq=1 in=3600s again
         classic L9 beta ttl=+1h key=a body=other -> no IdempotencyKeyReused
         classic L2 beta ttl=+999ms       -> no LimitReached
         classic L2 beta ttl=+32d         -> no LimitReached
         classic L2 nowhere               -> no UnknownPackage
         classic L2 beta api=1            -> no CredentialsRevoked
         apikey 1
         apikey 1                         -> unchanged
         apikey 1 mac=2                   -> no NameTaken
         apikey 2                         -> no NameTaken
         classic L1 beta api=1            -> no LeaseIdTaken
         classic L2 beta api=1            -> overage seq=1 in=86400s cost=500.0
         classic L3 beta                  -> no MaxOverageExceeded in=3600s
         no-apikey 1
         no-apikey 1                      -> no UnknownApiKey
         heartbeat L1                     -> no UnknownLease
         return L1                        -> no UnknownLease
         classic-return L1 gw=r           -> cost=0 held=0s
         classic-return L1 gw=r           -> cost=0 held=0s again
         classic-return L1 gw=s           -> cost=0 held=0s again
         classic-return L1 key=t          -> no LeaseEnded
         classic-return L7                -> no UnknownLease
         checkout L4                      -> commit seq=1 in=900s
         classic-return L4                -> no UnknownLease
         suspend beta
         classic L5 beta                  -> no PackageSuspended
         time +24h
         classic-return L2                -> no LeaseEnded
         seats beta                       -> commit 0+1 overage 0+1 total+2 -:0/2",
    );
}

#[test]
fn overage_stops_where_the_months_budget_does() {
    check(
        "import beta davinci 1 9          -> imported
         budget beta -                    -> unchanged
         budget beta -1                   -> no LimitReached
         budget nowhere 1                 -> no UnknownPackage
         budget beta 1200
         budget beta 1200                 -> unchanged
         checkout L1 beta                 -> commit seq=1 in=900s
         spent beta                       -> 0
         checkout L2 beta qty=3           -> no BudgetReached qty=2
         checkout L2 beta                 -> overage seq=1 in=900s cost=500.0
         classic L3 beta                  -> overage seq=1 in=86400s cost=500.0
         spent beta                       -> 1000.0
         checkout L4 beta                 -> no BudgetReached
         return L1                        -> cost=0 held=0s
         checkout L4 beta                 -> commit seq=1 in=900s # commit seats go on
         time civil=+30d
         checkout L5 beta                 -> no BudgetReached
         time civil=+1d
         spent beta                       -> 0
         checkout L5 beta                 -> overage seq=1 in=900s cost=500.0
         spent beta                       -> 500.0
         budget beta 400
         checkout L6 beta                 -> no BudgetReached
         budget beta -
         checkout L6 beta                 -> overage seq=1 in=900s cost=500.0
         spent beta                       -> 1000.0",
    );
}
