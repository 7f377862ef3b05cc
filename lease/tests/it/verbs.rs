//! Every verb: what it answers in which situation.

use crate::script::{check, check_in};
use crate::world::{START_MS, World, lease_id};

#[test]
fn checkout_takes_commit_then_overage_then_refuses() {
    check(
        "checkout L1                      -> commit seq=1 in=900s
         checkout L2 qty=4                -> commit seq=1 in=900s
         seats alpha                      -> commit 5+0 overage 0+15 total+15 -:5/20
         checkout L3                      -> overage seq=1 in=900s cost=500.0
         checkout L4 qty=2                -> overage seq=1 in=900s cost=1000.0
         time +60s
         checkout L5 qty=13               -> no MaxOverageExceeded in=840s qty=12
         checkout L6 qty=12               -> overage seq=1 in=900s cost=6000.0
         checkout L7                      -> no MaxOverageExceeded in=840s
         usage alpha                      -> checkouts 2+3 charged 7500.0 peak 20 ends 0+0+0 \
             sessions 0 0s files 0 other 0
         return L2                        -> cost=0 held=60s
         checkout L7                      -> commit seq=1 in=900s
         audit -> LeaseGranted LeaseGranted LeaseGranted LeaseGranted Refused LeaseGranted \
             LeaseReturned LeaseGranted
         refusals                         -> alpha:MaxOverageExceeded=2",
    );
}

#[test]
fn checkout_is_refused_with_a_reason() {
    check(
        "import beta davinci 2 0 from=+1d until=+2d         -> imported
         import gamma davinci 2 3 total=3                   -> imported
         import other matlab 1 0                            -> imported
         register 2 matlab                                  -> app 2 gen=1
         checkout L1 alpha app=9                            -> no CredentialsRevoked
         checkout L1 alpha gen=2                            -> no CredentialsRevoked
         checkout L1 alpha product=matlab                   -> no ProductNotPermitted
         checkout L1 alpha app=2                            -> no ProductNotPermitted
         checkout L1 nothing                                -> no UnknownPackage
         checkout L1 other                                  -> no UnknownPackage
         checkout L1 beta                                   -> no PackageNotYetValid
         checkout L1 alpha features=can,flexray             -> no UnknownFeature without=flexray
         checkout L1 alpha features=can,lin                 -> commit seq=1 in=900s
         checkout L2 alpha pool=team                        -> no UnknownPool
         checkout L2 alpha qty=0                            -> no LimitReached
         checkout L2 alpha qty=16                           -> no QuantityExceedsPackage qty=15
         checkout L1 alpha                                  -> no LeaseIdTaken
         checkout L2 gamma qty=3                            -> overage seq=1 in=900s cost=1500.0
         checkout L3 gamma                                  -> no MaxOverageExceeded in=900s
         suspend alpha
         checkout L4 alpha                                  -> no PackageSuspended
         resume alpha
         checkout L4 alpha                                  -> commit seq=1 in=900s
         time civil=+1d
         checkout L5 beta                                   -> commit seq=1 in=900s
         time civil=+2d
         checkout L6 beta                                   -> no PackageExpired
         revoke alpha
         checkout L6 alpha                                  -> no PackageRevoked",
    );
}

#[test]
fn what_an_operator_asks_of_an_application_is_refused() {
    check(
        "operator 7 auditor
         operator 8 operator
         operator 9 admin until=+60s
         suspend alpha as=7               -> no RoleTooNarrow
         suspend alpha as=8
         resume alpha as=8
         revoke alpha as=8                -> no RoleTooNarrow
         import beta davinci 1 1 as=8     -> no RoleTooNarrow
         register 2 davinci as=8          -> no RoleTooNarrow
         rotate 1 as=8                    -> no RoleTooNarrow
         remove 1 as=8                    -> no RoleTooNarrow
         operator 10 auditor as=8         -> no RoleTooNarrow
         operator 10 auditor as=n1
         pin vendor-2 as=9
         pin vendor-2 as=n1               -> no RoleTooNarrow
         revoke alpha as=a1               -> no RoleTooNarrow
         time +60s
         pin vendor-3 as=9                -> no OperatorRevoked
         pin vendor-3 as=99               -> no OperatorRevoked",
    );
}

#[test]
fn a_request_happens_once() {
    check(
        "checkout L1 key=a                -> commit seq=1 in=900s
         time +10s
         checkout L2 key=a                -> commit seq=1 in=890s again
         checkout L2 key=a body=other     -> no IdempotencyKeyReused
         heartbeat L1                     -> seq=2 in=900s
         checkout L3 key=a                -> commit seq=2 in=900s again
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20
         return L1 key=b                  -> cost=0 held=10s
         return L1 key=b                  -> cost=0 held=10s again
         return L1 key=b body=other       -> no IdempotencyKeyReused
         return L1 key=c                  -> no AlreadyEnded
         return L1 gw=d                   -> cost=0 held=10s again
         return L1                        -> cost=0 held=10s again
         checkout L2 key=a                -> no LeaseEnded
         checkout L2 key=a body=other     -> no IdempotencyKeyReused
         rows                             -> 1
         time +899s
         rows                             -> 1
         checkout L2 key=a                -> no LeaseEnded
         time +1s
         rows                             -> 0
         return L1 gw=d                   -> no AlreadyEnded
         checkout L2 key=a                -> commit seq=1 in=900s",
    );
}

#[test]
fn credentials_come_before_what_was_asked_before() {
    check(
        "checkout L1 key=a                -> commit seq=1 in=900s
         checkout L2 key=b                -> commit seq=1 in=900s
         return L2 key=c                  -> cost=0 held=0s
         rotate 1                         -> app 1 gen=2
         checkout L3 key=a                -> no CredentialsRevoked
         checkout L3 key=a body=other     -> no CredentialsRevoked
         checkout L3 key=b                -> no CredentialsRevoked
         return L2 key=c                  -> no CredentialsRevoked
         return L2 key=c body=other       -> no CredentialsRevoked
         checkout L3 key=a gen=2          -> commit seq=1 in=900s again
         checkout L3 key=b gen=2          -> no LeaseEnded
         return L2 key=c gen=2            -> cost=0 held=0s again
         remove 1
         checkout L3 key=a gen=2          -> no CredentialsRevoked
         return L2 key=c gen=2            -> no CredentialsRevoked",
    );
}

#[test]
fn an_application_has_the_packages_of_its_vendor_only() {
    check(
        "pin other-vendor
         import beta davinci 3 0 vendor=other-vendor  -> imported
         register 2 davinci vendor=other-vendor       -> app 2 gen=1
         checkout L1 beta                             -> no UnknownPackage
         checkout L1 alpha app=2                      -> no UnknownPackage
         checkout L1 alpha                            -> commit seq=1 in=900s
         checkout L2 beta app=2                       -> commit seq=1 in=900s
         refusals                                     -> alpha:UnknownPackage=1 \
             beta:UnknownPackage=1",
    );
}

#[test]
fn a_gateways_own_keys_are_remembered_for_thirty_seconds() {
    check(
        "checkout L1 gw=a                 -> commit seq=1 in=900s
         checkout L2 gw=a                 -> commit seq=1 in=900s again
         return L1 gw=b                   -> cost=0 held=0s
         checkout L2 gw=a                 -> no LeaseEnded
         time +29999ms
         return L1 gw=c                   -> cost=0 held=0s again
         rows                             -> 1
         time +1ms
         rows                             -> 0
         return L1 gw=c                   -> no AlreadyEnded
         # One of its two ids is a caller's: remembered as long as that one.
         checkout L3 gw=d                 -> commit seq=1 in=900s
         return L3 key=e                  -> cost=0 held=0s
         time +30s
         rows                             -> 1
         time +870s
         rows                             -> 0",
    );
}

#[test]
fn operators_commands_happen_once_under_a_key() {
    check(
        "suspend alpha key=a
         resume alpha
         suspend alpha key=a              # answered, not done again
         checkout L1                      -> commit seq=1 in=900s
         suspend alpha key=a body=other   -> no IdempotencyKeyReused
         import beta davinci 1 1 key=b    -> imported
         import beta davinci 1 1 key=b    -> imported again
         import beta davinci 1 1          -> imported again
         import beta davinci 1 2          -> no PackageIdTaken
         register 2 davinci key=c         -> app 2 gen=1
         register 3 davinci key=c         -> app 2 gen=1 other secret
         register 2 davinci key=c         -> app 2 gen=1
         register 2 davinci               -> no AppIdTaken
         rotate 2 key=d                   -> app 2 gen=2
         rotate 2 key=d                   -> app 2 gen=2
         rotate 2 key=d secret=5          -> app 2 gen=2 other secret
         rotate 2 secret=6                -> app 2 gen=3
         rotate 2 key=d                   -> app 2 gen=2 other secret
         remove 2 key=e
         remove 2 key=e
         remove 2                         -> no UnknownApp
         release L1 key=f
         release L1 key=f
         release L1 key=g                 -> no AlreadyEnded",
    );
}

#[test]
fn heartbeat_rotates_and_forgives_one_lost_answer() {
    check(
        "checkout L1                      -> commit seq=1 in=900s
         time +300s
         heartbeat L1:1                   -> seq=2 in=900s
         time +30s
         heartbeat L1:1                   -> seq=2 in=870s
         time +1ms
         heartbeat L1:1                   -> no RenewalTokenReplayed
         heartbeat L1:3                   -> no RenewalTokenReplayed
         heartbeat L1:2                   -> seq=3 in=900s
         heartbeat L1:1                   -> no RenewalTokenReplayed
         heartbeat L1:0                   -> no RenewalTokenReplayed
         heartbeat L1:2:idle              -> seq=3 in=900s
         time +60s
         heartbeat L1:3:idle              -> seq=3 in=840s
         heartbeat L1:2:idle              -> no RenewalTokenReplayed
         # Each lease and led minute has one event of its own; refusals are logged once a minute.
         audit -> LeaseGranted RenewalTokenReplayed Refused RenewalTokenReplayed Refused
         refusals                         -> alpha:RenewalTokenReplayed=5",
    );
}

#[test]
fn heartbeat_without_rotation_keeps_the_token() {
    check(
        "import beta davinci 1 1 rotation=0 ttl=+60s -> imported
         checkout L1 beta                 -> commit seq=1 in=60s
         time +50s
         heartbeat L1:1                   -> seq=1 in=60s
         time +50s
         heartbeat L1:1                   -> seq=1 in=60s
         heartbeat L1:2                   -> no RenewalTokenReplayed
         heartbeat L1:0                   -> no RenewalTokenReplayed",
    );
}

#[test]
fn heartbeat_judges_each_lease_by_itself() {
    check(
        "register 2 davinci               -> app 2 gen=1
         import beta davinci 1 1          -> imported
         checkout L1                      -> commit seq=1 in=900s
         checkout L2                      -> commit seq=1 in=900s
         checkout L3 app=2                -> commit seq=1 in=900s
         checkout L4 beta                 -> commit seq=1 in=900s
         return L2                        -> cost=0 held=0s
         suspend beta
         heartbeat L1 L2 L3 L4 L9 -> seq=2 in=900s; no LeaseEnded; no UnknownLease; no \
             PackageSuspended; no LeaseEnded
         heartbeat L2 L3 L9 app=2 -> no UnknownLease; seq=2 in=900s; no LeaseEnded
         return L3 app=2                  -> cost=0 held=0s
         heartbeat L3                     -> no UnknownLease
         heartbeat L3:2 app=2             -> no LeaseEnded
         resume beta
         heartbeat L4                     -> seq=2 in=900s
         revoke beta
         heartbeat L4:2                   -> no LeaseEnded
         heartbeat L1:2 gen=2             -> no CredentialsRevoked
         rotate 1                         -> app 1 gen=2
         heartbeat L1:2                   -> no CredentialsRevoked
         heartbeat L1:2 gen=2             -> seq=3 in=900s
         remove 1
         heartbeat L1:3 gen=2             -> no CredentialsRevoked
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20",
    );
}

#[test]
fn a_lease_ends_by_the_lease_clock_alone() {
    check(
        "checkout L1                      -> commit seq=1 in=900s
         due                              -> 900000 31536000001
         time civil=+20d                  # an outage: nothing was led
         heartbeat L1                     -> seq=2 in=900s
         time led=+899999ms
         due                              -> 1 29808000001
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20
         time led=+1ms
         due                              -> - -
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         heartbeat L1:2                   -> no LeaseEnded
         return L1                        -> no AlreadyEnded
         release L1                       -> no AlreadyEnded
         usage alpha                      -> checkouts 1+0 charged 0 peak 1 ends 0+1+0 sessions 0 \
             0s files 0 other 0",
    );
}

#[test]
fn clocks_never_go_back() {
    check(
        "checkout L1                      -> commit seq=1 in=900s
         time +60s
         time -50s                        # another leader, whose clocks are behind
         checkout L1 key=x                -> no LeaseIdTaken
         heartbeat L1                     -> seq=2 in=900s",
    );
}

#[test]
fn a_packages_end_is_its_leases_end() {
    check(
        "import beta davinci 2 2 until=+2h -> imported
         checkout L1 beta                 -> commit seq=1 in=900s
         checkout L2 beta qty=2           -> overage seq=1 in=900s cost=1000.0
         time civil=+7200s
         seats beta                       -> commit 1+1 overage 2+0 total+1 -:3/4
         due                              -> 900000 1
         time civil=+1ms
         seats beta                       -> commit 0+2 overage 0+2 total+4 -:0/4
         heartbeat L1                     -> no LeaseEnded
         audit -> PackageImported LeaseGranted LeaseGranted LeaseEndedWithPackage \
             LeaseEndedWithPackage Refused
         import gamma davinci 1 1 until=+1h -> no PackageExpired",
    );
}

/// A holder counts the milliseconds it is told: they must not lead it past the package's end.
#[test]
fn what_a_holder_counts_ends_with_the_package() {
    let script = "import beta davinci 2 2 until=+10m -> imported
         checkout L1 beta                 -> commit seq=1 in=600.001s
         checkout L2 beta key=a           -> commit seq=1 in=600.001s
         time +9m
         checkout L3 beta key=a           -> commit seq=1 in=60.001s again
         heartbeat L1                     -> seq=2 in=60.001s
         heartbeat L1                     -> seq=2 in=60.001s
         # The civil clock alone: it runs on where nothing was led.
         time civil=+60s
         heartbeat L1:2                   -> seq=3 in=0.001s";
    let world = check_in(World::ready(), script);
    let lease = world.ledger.lease(&lease_id(1)).expect("it is live");
    assert_eq!((lease.expires_in_ms, lease.expires_at_ms), (1, START_MS + 600_000));
    check(&format!(
        "{script}
         time civil=+1ms
         heartbeat L1:3                   -> no LeaseEnded"
    ));
}

#[test]
fn seats_that_lapse_take_the_newest_leases_with_them() {
    check(
        "import beta davinci 3 1 commit_until=+1h -> imported
         checkout L1 beta                 -> commit seq=1 in=900s
         checkout L2 beta qty=2           -> commit seq=1 in=900s
         checkout L3 beta                 -> overage seq=1 in=900s cost=500.0
         time civil=+3600s
         seats beta                       -> commit 3+0 overage 1+0 total+0 -:4/4
         time civil=+1ms
         seats beta                       -> commit 0+0 overage 1+0 total+3 -:1/4
         heartbeat L1 L3                  -> no LeaseEnded; seq=2 in=900s
         audit -> PackageImported LeaseGranted LeaseGranted LeaseGranted LeaseEndedWithSeats \
             LeaseEndedWithSeats Refused",
    );
    check(
        "import beta davinci 2 1 commit_until=+1h extra=2 total=9 -> imported
         checkout L1 beta                 -> commit seq=1 in=900s
         checkout L2 beta qty=2           -> commit seq=1 in=900s
         checkout L3 beta                 -> commit seq=1 in=900s
         time civil=+3600001ms
         seats beta                       -> commit 1+1 overage 0+1 total+8 -:1/9
         heartbeat L1 L2 L3               -> seq=2 in=900s; no LeaseEnded; no LeaseEnded",
    );
}

#[test]
fn return_frees_counts_and_charges() {
    check(
        "register 2 davinci               -> app 2 gen=1
         checkout L1 qty=5                -> commit seq=1 in=900s
         checkout L2 qty=3                -> overage seq=1 in=900s cost=1500.0
         time +90s
         return L1 app=2                  -> no UnknownLease
         return L1 gen=2                  -> no CredentialsRevoked
         return L1 seconds=80 files=3 used=can,lin -> cost=0 held=90s
         return L2 seconds=10 files=1 used=can     -> cost=1500.0 held=90s
         return L2                        -> cost=1500.0 held=90s again
         return L2 app=2                  -> no UnknownLease
         return L9                        -> no AlreadyEnded
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         usage alpha                      -> checkouts 1+1 charged 1500.0 peak 8 ends 2+0+0 \
             sessions 2 90s files 4 other 0 can:2 lin:1",
    );
}

#[test]
fn an_operator_takes_a_seat_back() {
    check(
        "checkout L1 key=a                -> commit seq=1 in=900s
         release L1
         release L1                       -> no AlreadyEnded
         heartbeat L1                     -> no LeaseEnded
         return L1                        -> no AlreadyEnded
         checkout L2 key=a                -> no LeaseEnded
         audit                            -> LeaseGranted LeaseReleased Refused Refused Refused",
    );
}

#[test]
fn seats_move_between_pools() {
    check(
        "transfer alpha team 3
         checkout L1 pool=team qty=2      -> commit seq=1 in=900s
         checkout L2 pool=team qty=2      -> no PoolExhausted in=900s qty=1
         checkout L2 pool=team            -> commit seq=1 in=900s
         checkout L3 pool=team            -> no PoolExhausted in=900s pool=-
         seats alpha                      -> commit 3+2 overage 0+15 total+17 -:0/17 team:3/3
         transfer alpha other 1 from=team -> no NotEnoughFree
         return L2                        -> cost=0 held=0s
         transfer alpha other 1 from=team
         transfer alpha - 1 from=other
         transfer alpha other 1 from=team -> no NotEnoughFree
         transfer alpha other 1 from=none -> no UnknownPool
         transfer alpha other 19          -> no NotEnoughFree
         transfer alpha other 0           -> no LimitReached
         transfer alpha team 1 from=team  -> unchanged
         transfer beta team 1             -> no UnknownPackage
         checkout L4 pool=other           -> no UnknownPool
         seats alpha                      -> commit 2+3 overage 0+15 total+18 -:0/18 team:2/2
         time +900s
         transfer alpha - 2 from=team
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20",
    );
}

#[test]
fn packages_pause_and_end() {
    check(
        "checkout L1                      -> commit seq=1 in=900s
         checkout L2                      -> commit seq=1 in=900s
         suspend alpha
         suspend alpha                    -> unchanged
         heartbeat L1                     -> no PackageSuspended
         return L1                        -> cost=0 held=0s
         resume alpha
         resume alpha                     -> unchanged
         heartbeat L2                     -> seq=2 in=900s
         revoke alpha
         heartbeat L2:2                   -> no LeaseEnded
         revoke alpha                     -> unchanged
         resume alpha                     -> no PackageRevoked
         suspend alpha                    -> no PackageRevoked
         transfer alpha team 1            -> no PackageRevoked
         suspend nothing                  -> no UnknownPackage
         audit -> LeaseGranted LeaseGranted PackageSuspended Refused LeaseReturned PackageResumed \
             PackageRevoked LeaseEndedWithPackage Refused Refused Refused",
    );
}

#[test]
fn packages_and_applications_are_let_in_on_conditions() {
    check(
        "pin vector-de                            -> unchanged
         pin vector-de other=1                    -> no VendorKeyDiffers
         import beta davinci 1 1 vendor=nobody    -> no UnknownVendor
         import beta davinci 1 1 client=others    -> no ForeignClient
         import beta davinci 1 1 domain=audi.com  -> no ForeignDomain
         import beta davinci 1 1 ttl=+0s          -> no LimitReached
         import alpha davinci 5 15                -> imported again
         import alpha davinci 5 16                -> no PackageIdTaken
         register 1 davinci                       -> no AppIdTaken
         register 2 davinci vendor=nobody         -> no UnknownVendor
         register 2 matlab                        -> no UnknownProduct
         pin other-vendor
         register 2 davinci vendor=other-vendor   -> no UnknownProduct
         register 2 davinci                       -> app 2 gen=1
         operator 1 admin                         -> unchanged
         operator 1 auditor                       -> no VersionConflict",
    );
}

#[test]
fn refusals_are_counted_always_and_logged_once_a_minute() {
    check(
        "return L1                        -> no AlreadyEnded
         return L2                        -> no AlreadyEnded
         checkout L1 nothing              -> no UnknownPackage
         checkout L1 nowhere              -> no UnknownPackage
         audit                            -> Refused Refused
         time civil=+59999ms
         return L1                        -> no AlreadyEnded
         audit                            ->
         time civil=+1ms
         return L1                        -> no AlreadyEnded
         return L1                        -> no AlreadyEnded
         audit                            -> Refused
         refusals                         -> :UnknownPackage=2 :AlreadyEnded=5",
    );
}
