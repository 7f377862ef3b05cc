//! License keys through every face: what each verb answers in which situation.
//!
//! One file, though a long one: tables that are read side by side, a protocol's document beside.

use lease::command::Command;
use lease::ids::*;
use lease::license::{ActivationState, Claim};
use lease::outcome::Outcome;

use crate::license_script::{activate, identity, license, session};
use crate::script::{check, check_in};
use crate::world::{ROOT, START_MS, World};

#[test]
fn a_device_activates_once_and_confirms() {
    check(
        "client C1 anna@x.com
         issue K1 device client=C1 max=2
         device K1 fp-1                   -> seat tv=1
         device K1 fp-1                   -> same tv=1
         verify K1 fp-1                   -> same tv=1
         due                              -> - 31536000001
         device K1 fp-2                   -> seat tv=1
         device K1 fp-3                   -> no TooManyActivations
         seats alpha                      -> commit 2+3 overage 0+15 total+18 -:2/20
         activation K1 fp-1 remove
         verify K1 fp-1                   -> no UnknownActivation
         device K1 fp-3                   -> seat tv=1
         time +900s                       # no such lease ends by the lease clock
         active K1                        -> 2 fp-2:Active+ fp-3:Active+
         audit -> ClientAdded LicenseIssued LeaseGranted Activated LeaseGranted Activated Refused \
             ActivationChanged ActivationEnded LeaseReleased Refused LeaseGranted Activated
         refusals                         -> alpha:TooManyActivations=1 alpha:UnknownActivation=1",
    );
}

/// The order of questions of device.md 1.6: each line mends what the one before stumbled over.
#[test]
fn a_device_is_refused_in_the_documents_order() {
    check(
        "client C1 anna@x.com
         catalog P1 studio 1
         issue K1 device client=C1 max=1 product=studio pid=P1 until=+30d
         issue K2 device client=C1
         device K1 fp-1                                   -> seat tv=1
         ban C1
         license K1 revoke
         time civil=+31d
         device K9 fp-2 product=other client=C2           -> no UnknownLicenseKey
         device K2 fp-2 product=other client=C2           -> no LicenseWithoutProduct
         device K1 fp-2 product=other client=C2           -> no LicenseOfOtherProduct
         device K1 fp-2 product=@2 client=C2              -> no LicenseOfOtherProduct
         verify K1 fp-2 product=studio client=C2          -> no ClientMismatch
         verify K1 fp-2 product=@1 email=bert@x.com       -> no EmailNotAuthorized
         device K1 fp-2 product=studio client=C2          -> no ClientBanned
         verify K1 fp-2                                   -> no ClientBanned
         unban C1
         device K1 fp-2 client=C2                         -> no LicenseRevoked
         verify K1 fp-2                                   -> no LicenseRevoked
         license K1 reinstate
         device K1 fp-2 client=C2                         -> no LicenseExpired
         verify K1 fp-2                                   -> no LicenseExpired",
    );
    check(
        "client C1 anna@x.com
         issue K1 device client=C1 max=1 from=+1d
         device K1 fp-1 client=C2                         -> no LicenseNotYetValid
         time civil=+1d
         device K1 fp-1 client=C2                         -> no ClientMismatch
         device K1 fp-1 email=bert@x.com                  -> seat tv=1
         device K1 fp-2                                   -> no TooManyActivations
         verify K1 fp-2                                   -> no UnknownActivation
         activation K1 fp-1 revoke
         verify K1 fp-1 email=bert@x.com                  -> no ActivationRevoked
         device K1 fp-1                                   -> no ActivationRevoked
         device K1 fp-2                                   -> seat tv=1
         activation K1 fp-1 reinstate
         verify K1 fp-1                                   -> no TooManyActivations
         device K1 fp-3 face=deployment                   -> no RoleTooNarrow
         device K1 fp-3 face=classic                      -> no RoleTooNarrow
         setup K1 who@x.com                               -> no UnknownLicenseKey",
    );
}

#[test]
fn delegates_are_made_by_activation_alone() {
    let world = check_in(
        World::ready(),
        "client C1 anna@x.com
         issue K1 device client=C1
         verify K1 fp-1 email=bert@x.com  -> no EmailNotAuthorized
         device K1 fp-1 email=bert@x.com client=C9 -> no ClientMismatch
         device K1 fp-1 email=bert@x.com  -> seat tv=1
         verify K1 fp-1 email=BERT@X.COM  -> same tv=1
         verify K1 fp-1 email=bert@x.com client=C510 -> same tv=1
         verify K1 fp-1                   -> same tv=1
         verify K1 fp-1 email=carl@x.com  -> no EmailNotAuthorized
         device K1 fp-2 email=bert@x.com  -> seat tv=1
         audit -> ClientAdded LicenseIssued Refused Refused LeaseGranted IdentityDelegated \
             Activated LeaseGranted Activated",
    );
    let bert = world.ledger.identity(LicenseId(1), "Bert@x.com").expect("a delegate");
    assert_eq!(bert.subject_client, ClientId(510));
    assert_eq!(world.ledger.identity(LicenseId(1), "anna@x.com"), None);
    let rows: Vec<_> = world.ledger.activations_of(LicenseId(1)).collect();
    assert!(rows.iter().all(|row| row.subject_client == Some(ClientId(510))));
    assert!(rows.iter().all(|row| row.session == Some(session())));
    let lease = world.ledger.lease(&rows[0].lease.expect("a seat")).expect("live");
    assert_eq!((lease.user, lease.host), (SubjectRef(0), SubjectRef(0)), "nobody is in a lease");
}

#[test]
fn a_slot_is_one_clusters_at_a_time() {
    check(
        "issue K1 deployment ttl=+24h nodes=3
         setup K1 who@x.com               -> set-up tv=1
         setup K1 Who@x.com               -> set-up again tv=1
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         cluster K1 c-1 nodes=4           -> no NodeLimitExceeded
         cluster K1 c-1 nodes=3           -> seat tv=1
         cluster K1 c-2                   -> no SlotInUse
         due                              -> 86400000 31536000001
         time +23h
         beat K1 c-1 nodes=4              -> no NodeLimitExceeded
         beat K1 c-2                      -> no UnknownActivation
         beat K1 c-1                      -> same tv=1
         time +23h
         cluster K1 c-2                   -> no SlotInUse
         time +1h
         active K1                        -> 0 c-1:Released
         cluster K1 c-2                   -> seat tv=1
         beat K1 c-1                      -> no SlotInUse
         leave K1 c-1
         leave K1 c-2
         leave K1 c-2
         beat K1 c-2                      -> no UnknownActivation # it was on its way
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         cluster K1 c-1                   -> seat tv=1
         beat K1 c-2                      -> no SlotInUse
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20
         audit -> LicenseIssued LicenseSetUp Refused LeaseGranted Activated Refused Refused \
             Refused \
             Refused LeaseExpired ActivationEnded LeaseGranted Activated Refused ActivationEnded \
             LeaseReturned Refused LeaseGranted Activated",
    );
    let script = "issue K1 deployment ttl=+24h max=2
         cluster K1 c-1                   -> seat tv=1
         time +1h
         cluster K1 c-2                   -> seat tv=1
         cluster K1 c-3                   -> no SlotInUse";
    let world = check_in(World::ready(), script);
    let (row, at) = world.ledger.holder_of_seat(LicenseId(1)).expect("taken");
    assert_eq!((&*row.holder, at), ("c-1", Some(START_MS + 86_400_000)));
}

#[test]
fn stale_tokens_and_states_of_a_cluster() {
    check(
        "issue K1 deployment ttl=+24h until=+30d
         cluster K1 c-1                   -> seat tv=1
         license K1 suspend
         license K1 suspend               -> unchanged
         beat K1 c-1                      -> no LicenseSuspended
         cluster K1 c-1                   -> no LicenseSuspended
         setup K1 who@x.com               -> no LicenseSuspended
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20
         license K1 resume
         license K1 resume                -> unchanged
         beat K1 c-1                      -> no StaleTokenVersion
         beat K1 c-1 tv=3                 -> same tv=3
         license K1 rotate:K7
         beat K1 c-1 tv=3                 -> no UnknownLicenseKey
         beat K7 c-1 tv=3                 -> no StaleTokenVersion
         beat K7 c-1 tv=4                 -> same tv=4
         license K1 reinstate             -> unchanged
         license K1 cancel
         license K1 cancel                -> unchanged
         license K1 resume                -> no LicenseStateConflict
         license K1 revoke                -> no LicenseStateConflict
         license K1 rotate:K8             -> no LicenseStateConflict
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         cluster K7 c-1                   -> no LicenseCancelled
         leave K7 c-1
         audit -> LicenseIssued LeaseGranted Activated LicenseChanged Refused LicenseChanged \
             Refused LicenseKeyRotated Refused LicenseChanged ActivationEnded LeaseReleased \
             Refused Refused",
    );
}

#[test]
fn licenses_change_only_as_drawn() {
    check(
        "client C1 anna@x.com
         issue K1 device client=C1 max=1
         device K1 fp-1                   -> seat tv=1
         license K1 revoke
         license K1 revoke                -> unchanged
         license K1 suspend               -> no LicenseStateConflict
         license K1 resume                -> no LicenseStateConflict
         active K1                        -> 0 fp-1:Released
         device K1 fp-1                   -> no LicenseRevoked
         license K1 reinstate
         verify K1 fp-1                   -> seat tv=3
         license K1 suspend
         license K1 reinstate             -> no LicenseStateConflict
         verify K1 fp-1                   -> no LicenseSuspended
         active K1                        -> 1 fp-1:Active+
         license K1 revoke
         license K1 cancel
         license K1 reinstate             -> no LicenseStateConflict
         license K2 revoke                -> no UnknownLicense
         license K1 rotate:K1             -> unchanged",
    );
}

#[test]
fn a_host_has_one_evaluation_period() {
    check(
        "issue K1 evaluation act=+30d max=2
         host - h-1                       -> no UnknownLicenseKey
         host K1 h-1 org=acme project=p   -> seat tv=1
         host K1 h-1                      -> same tv=1
         validate K1 h-1                  -> same tv=1
         validate K1 h-1 host=other       -> no HolderMismatch
         validate K1 h-9                  -> no UnknownActivation
         host K1 h-2                      -> seat tv=1
         host K1 h-3                      -> no TooManyActivations
         activation K1 h-2 revoke
         activation K1 h-2 revoke         -> unchanged
         validate K1 h-2                  -> no ActivationRevoked
         host K1 h-2                      -> no ActivationRevoked
         activation K1 h-2 reinstate
         activation K1 h-2 reinstate      -> unchanged
         validate K1 h-2                  -> seat tv=1
         license K1 suspend
         validate K1 h-1 host=other       -> no LicenseSuspended
         license K1 resume
         time civil=+30d
         validate K1 h-1                  -> same tv=3
         time civil=+1ms
         validate K1 h-1                  -> no ActivationExpired
         host K1 h-1                      -> no ActivationExpired
         active K1                        -> 0 h-1:Released h-2:Released
         host K1 h-3                      -> seat tv=3
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20",
    );
    let world = check_in(
        World::ready(),
        "issue K3 deployment open=1       -> no LimitReached
         issue K1 evaluation open=1 act=+30d
         issue K2 evaluation open=1       -> no LicenseTaken
         host - h-1 org=acme              -> seat tv=1
         validate - h-1                   -> same tv=1
         host - h-1 project=p             -> same tv=1
         license K1 cancel
         host - h-1                       -> no UnknownLicenseKey
         issue K2 evaluation open=1
         host - h-1                       -> seat tv=1",
    );
    let row = world.ledger.activation_of_holder(LicenseId(1), "h-1").expect("kept");
    assert_eq!((&*row.org, &*row.project, row.state), ("acme", "p", ActivationState::Released));
}

#[test]
fn wrong_keys_are_counted_per_address() {
    let mut script = String::from("issue K1 evaluation\nhost K1 h-1 at=5 -> seat tv=1\n");
    for _ in 0..10 {
        script.push_str("host K9 h-2 at=5 -> no UnknownLicenseKey\ntime +1s\n");
    }
    check(&format!(
        "{script}
         host K1 h-3 at=5                 -> no TooManyGuesses in=890s
         host K9 h-2 at=5                 -> no TooManyGuesses in=890s
         validate K1 h-9 at=5             -> no TooManyGuesses in=890s
         leave K9 c-1 at=5                -> no TooManyGuesses in=890s
         host K1 h-1 at=5                 -> same tv=1 # who is known is heard
         validate K1 h-1 at=5             -> same tv=1
         host K1 h-1 at=6                 -> same tv=1
         validate K1 h-9 at=6             -> no UnknownActivation
         beat K9 c-1 at=6                 -> no UnknownLicenseKey
         leave K9 c-1 at=6                -> no UnknownLicenseKey
         verify K9 fp-1 at=6              -> no UnknownLicenseKey
         cluster K1 c-1 at=6              -> no UnknownLicenseKey
         guesses                          -> 3
         time civil=+1d                   # the lease clock alone counts
         host K1 h-3 at=5                 -> no TooManyGuesses in=890s
         time led=+890s
         guesses                          -> 1
         host K1 h-3 at=5                 -> seat tv=1
         time led=+10s
         guesses                          -> 0"
    ));
}

/// A cluster that reports after it left names nothing but itself: no key is guessed by that.
#[test]
fn reports_of_strangers_lock_no_key_out() {
    let mut script = String::from("issue K1 deployment\ncluster K1 c-1 at=5 -> seat tv=1\n");
    for _ in 0..10 {
        script.push_str("report c-9 tokens:1 at=5 -> no UnknownActivation\n");
    }
    check(&format!(
        "{script}
         guesses                          -> 2
         report c-9 tokens:1 at=5         -> no TooManyGuesses in=900s
         report c-1 tokens:1 at=5         -> tokens:1
         leave K1 c-1 at=5
         report c-1 tokens:1 at=5         -> no TooManyGuesses in=900s
         cluster K1 c-2 at=5              -> seat tv=1
         cluster K9 c-2 at=5              -> no UnknownLicenseKey
         time +900s
         guesses                          -> 0"
    ));
}

/// An address goes on being counted while all together are at their limit.
#[test]
fn at_the_common_limit_an_address_is_counted_still() {
    let mut script = String::from("issue K1 evaluation\n");
    for _ in 0..1000 {
        script.push_str("validate K1 wrong -> no UnknownActivation\n");
    }
    script.push_str("time +100s\n");
    for _ in 0..10 {
        script.push_str("host K9 h-1 at=5 -> no TooManyGuesses in=800s\n");
    }
    check(&format!(
        "{script}
         time +800s
         host K1 h-1 at=6                 -> seat tv=1
         host K1 h-2 at=5                 -> no TooManyGuesses in=100s
         time +100s
         host K1 h-2 at=5                 -> seat tv=1"
    ));
}

/// Fingerprints are easily made up: an address begins so many trials in a day.
#[test]
fn an_address_has_so_many_trials_a_day() {
    let mut script = String::new();
    for number in 0..5 {
        script.push_str(&format!("trial K{} fp-{number} at=5 -> seat tv=1\n", number + 1));
    }
    check(&format!(
        "{script}
         trial K6 fp-5 at=5               -> no TooManyGuesses in=86400s
         trial K6 fp-1 at=5               -> no TrialUsed
         trial K6 fp-5 at=6               -> seat tv=1
         host K9 h-1 at=5                 -> no UnknownLicenseKey # counted apart
         time led=+86399s
         guesses                          -> 2
         trial K7 fp-6 at=5               -> no TooManyGuesses in=1s
         time led=+1s
         guesses                          -> 0
         trial K7 fp-6 at=5               -> seat tv=1"
    ));
}

#[test]
fn when_all_addresses_guess_only_known_holders_are_heard() {
    let mut script = String::from(
        "client C1 anna@x.com
         issue K1 evaluation
         issue K2 deployment
         issue K3 device client=C1
         issue K4 evaluation open=1
         host K1 h-1                      -> seat tv=1
         cluster K2 c-1                   -> seat tv=1
         device K3 fp-1                   -> seat tv=1
         device K3 fp-2                   -> seat tv=1
         activation K3 fp-2 revoke\n",
    );
    for _ in 0..1000 {
        script.push_str("validate K1 wrong -> no UnknownActivation\n");
    }
    check(&format!(
        "{script}
         validate K1 wrong                -> no TooManyGuesses in=900s
         host K1 h-2                      -> no TooManyGuesses in=900s
         host K9 h-1                      -> no TooManyGuesses in=900s
         validate K1 h-1 host=h-2         -> no TooManyGuesses in=900s
         verify K3 fp-2                   -> no TooManyGuesses in=900s
         report c-2 tokens:1              -> no UnknownActivation # a count of its own
         host K9 h-1 at=7                 -> no TooManyGuesses in=900s
         guesses                          -> 3
         host K1 h-1                      -> same tv=1
         validate K1 h-1                  -> same tv=1
         beat K2 c-1                      -> same tv=1
         report c-1 tokens:1              -> tokens:1
         verify K3 fp-1                   -> same tv=1
         host - h-2                       -> seat tv=1    # nothing was guessed
         time +900s
         host K1 h-2                      -> seat tv=1"
    ));
}

#[test]
fn every_face_takes_seats_of_one_package() {
    check(
        "import beta davinci 2 1                      -> imported
         client C1 anna@x.com
         issue K1 device beta client=C1
         issue K2 deployment beta ttl=+60s
         issue K3 evaluation beta
         issue K4 evaluation beta take=4              -> no LimitReached
         issue K4 evaluation beta take=2
         checkout L1 beta                             -> commit seq=1 in=900s
         device K1 fp-1                               -> seat tv=1
         cluster K2 c-1                               -> seat tv=1
         seats beta                                   -> commit 2+0 overage 1+0 total+0 -:3/3
         host K3 h-1                                  -> no NoSeat in=60s
         checkout L2 beta                             -> no MaxOverageExceeded in=60s
         return L1                                    -> cost=0 held=0s
         host K3 h-1                                  -> seat tv=1
         time +60s
         host K4 h-1                                  -> no NoSeat
         beat K2 c-1                                  -> no UnknownActivation
         cluster K2 c-1                               -> seat tv=1
         seats beta                                   -> commit 2+0 overage 1+0 total+0 -:3/3
         activation K1 fp-1 remove
         activation K3 h-1 remove
         host K4 h-1                                  -> seat tv=1
         suspend beta
         host K4 h-1                                  -> no LicenseSuspended
         beat K2 c-1                                  -> no LicenseSuspended
         device K1 fp-1                               -> no LicenseSuspended
         resume beta
         revoke beta
         host K4 h-1                                  -> no LicenseRevoked
         issue K5 evaluation beta                     -> no PackageRevoked
         issue K5 evaluation nothing                  -> no UnknownPackage
         time +1ms
         active K4                                    -> 0 h-1:Released
         seats beta                                   -> commit 0+2 overage 0+1 total+3 -:0/3",
    );
}

/// A seat that ends by itself, with its package or by an operator, leaves its activation released.
#[test]
fn an_activation_outlives_its_seat() {
    let mut world = check_in(
        World::ready(),
        "import beta davinci 1 0 until=+1h            -> imported
         client C1 anna@x.com
         issue K1 device client=C1
         issue K2 device beta client=C1
         device K1 fp-1                               -> seat tv=1
         device K2 fp-1                               -> seat tv=1",
    );
    let row = world.ledger.activation_of_holder(LicenseId(1), "fp-1").expect("active");
    let lease = row.lease.expect("a seat");
    assert_eq!(
        world.ledger.activation_of_lease(lease).map(|row| row.activation),
        Some(row.activation)
    );
    let release = Command::Release { lease, reason: "because".into() };
    let outcome = world.apply(lease::entry::Actor::Operator(ROOT), None, release);
    assert_eq!(outcome, Outcome::Done);
    check_in(
        world,
        "active K1                                    -> 0 fp-1:Released
         verify K1 fp-1                               -> seat tv=1
         time civil=+3600001ms
         active K2                                    -> 0 fp-1:Released
         verify K2 fp-1                               -> no LicenseExpired",
    );
}

#[test]
fn a_trial_is_had_once() {
    check(
        "trial K1 fp-1                    -> seat tv=1
         trial K2 fp-1                    -> no TrialUsed
         trial K1 fp-2                    -> no LicenseTaken
         trial K2 fp-2                    -> seat tv=1     # the same owner
         trial K3 fp-3 email=bert@x.com   -> no ClientTaken
         trial K3 fp-3 email=bert@x.com client=C78 key=a -> seat tv=1
         trial K3 fp-3 email=bert@x.com client=C78 key=a -> seat tv=1
         trial K4 fp-3                    -> no TrialUsed
         verify K1 fp-1 client=C77        -> same tv=1
         ban C77
         trial K4 fp-4                    -> no ClientBanned
         time civil=+14d
         verify K3 fp-3 client=C78 email=bert@x.com -> same tv=1
         time civil=+1ms
         verify K3 fp-3 client=C78 email=bert@x.com -> no ActivationExpired
         trial K4 fp-3 email=bert@x.com   -> no TrialUsed
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         audit -> LeaseGranted ClientAdded LicenseIssued TrialStarted Activated Refused Refused \
             LeaseGranted LicenseIssued TrialStarted Activated Refused LeaseGranted ClientAdded \
             LicenseIssued TrialStarted Activated ClientChanged Refused LeaseExpired \
             ActivationEnded LeaseExpired ActivationEnded LeaseExpired ActivationEnded Refused \
             Refused",
    );
}

#[test]
fn a_trial_is_all_or_nothing() {
    let world = check_in(
        World::ready(),
        "checkout L1 qty=5                -> commit seq=1 in=900s
         checkout L2 qty=15               -> overage seq=1 in=900s cost=7500.0
         trial K1 fp-1                    -> no NoSeat in=900s
         time +900s",
    );
    assert_eq!(world.ledger.trial("fp-1"), None);
    assert_eq!(world.ledger.licenses(None).count() + world.ledger.clients(None).count(), 0);
    let world = check_in(world, "trial K1 fp-1 -> seat tv=1");
    let trial = world.ledger.trial("fp-1").expect("had");
    let fortnight = 14 * 86_400_000;
    assert_eq!(trial.ends_at_ms - trial.started_at_ms, fortnight);
    let owner = world.ledger.client_by_email("ANNA@x.com").expect("a client");
    assert_eq!(world.ledger.licenses_of_client(owner.client).count(), 1);
}

#[test]
fn books_are_kept_without_doubles() {
    check(
        "client C1 anna@x.com
         client C1 bert@x.com             -> no ClientTaken
         client C2 Anna@X.com             -> no ClientTaken
         ban C9                           -> no UnknownClient
         unban C1                         -> unchanged
         ban C1
         ban C1                           -> unchanged
         catalog P1 studio 2              -> no VersionConflict
         catalog P1 studio 1
         catalog P1 studio 1              -> unchanged
         catalog P1 studio 1 size=3       -> no VersionConflict
         catalog P2 studio 1              -> no NameTaken
         catalog P1 atelier 2 size=49152
         catalog P2 studio 1
         catalog P1 studio 3              -> no NameTaken
         catalog P1 atelier 3 size=49153  -> no LimitReached
         uncatalog P2 2                   -> no VersionConflict
         uncatalog P2 1
         uncatalog P2 1                   -> no UnknownCatalogProduct
         user U1 root
         user U1 other                    -> no NameTaken
         user U2 root                     -> no NameTaken
         user U2 other
         user U3 third as=8               -> no OperatorRevoked
         window eval 1 1                  -> no VersionConflict
         secret eval-1 as=n1
         window eval 1 0                  -> no VersionConflict
         window eval 1 2                  -> no VersionConflict
         window eval 1 1
         window eval 1 1                  -> unchanged
         window eval 2 1                  -> no VersionConflict
         secret eval-2 as=n1
         window eval 2 1
         window eval 2 2
         window eval 1 1                  -> no VersionConflict
         window eval 2 1
         issue K1 device client=C9        -> no UnknownClient
         issue K1 device                  -> no UnknownClient
         issue K1 classic                 -> no LimitReached
         issue K1 evaluation take=0       -> no LimitReached
         issue K1 evaluation take=21      -> no LimitReached
         issue K1 evaluation from=+2d until=+1d -> no LimitReached
         issue K1 evaluation key=a
         issue K1 evaluation key=a
         issue K1 evaluation              -> no LicenseTaken
         issue K2 evaluation id=1         -> no LicenseTaken",
    );
}

#[test]
fn use_is_metered_per_license() {
    check(
        "issue K1 deployment quota=tokens:100,cpu:2
         issue K2 evaluation
         host K2 c-2                      -> seat tv=1
         report c-1 tokens:5              -> no UnknownActivation
         report c-2 tokens:5              -> no UnknownActivation
         cluster K1 c-1                   -> seat tv=1
         report c-1 tokens:5,hops:1.25    -> cpu:0/2 hops:1.25 tokens:5/100
         report c-1 tokens:6 gw=job-1     -> cpu:0/2 hops:1.25 tokens:11/100
         report c-1 tokens:6 gw=job-1     -> cpu:0/2 hops:1.25 tokens:11/100
         report c-1 tokens:-1             -> no LimitReached
         report c-1 tokens:79228162514264337593543950335 -> \
             cpu:0/2 hops:1.25 tokens:79228162514264337593543950335/100
         issue K3 deployment
         cluster K3 c-1                   -> seat tv=1
         report c-1 tokens:1              -> no UnknownActivation # whose?
         report c-1 tokens:1 of=K3        -> tokens:1
         report c-1 tokens:1 of=K2        -> no UnknownActivation
         leave K3 c-1
         report c-1 tokens:1 of=K3        -> no UnknownActivation
         report c-1 cpu:1 -> \
             cpu:1/2 hops:1.25 tokens:79228162514264337593543950335/100
         leave K1 c-1
         report c-1 tokens:1              -> no UnknownActivation
         guesses                          -> 1",
    );
}

/// Made-up metrics neither grow without end nor keep those with a quota from being counted.
#[test]
fn metrics_with_a_quota_are_always_counted() {
    let mut script = String::from(
        "issue K1 deployment quota=tokens:100,cpu:2
         cluster K1 c-1                   -> seat tv=1\n",
    );
    let mut counted = Vec::new();
    for junk in 0..64 {
        counted.push(format!("junk-{junk:02}:1"));
        let shown = counted.join(" ");
        script.push_str(&format!("report c-1 junk-{junk:02}:1 -> cpu:0/2 {shown} tokens:0/100\n"));
    }
    let rest = counted[1..].join(" ");
    check(&format!(
        "{script}
         report c-1 more:1,tokens:5,cpu:1,junk-00:1 -> cpu:1/2 junk-00:2 {rest} tokens:5/100"
    ));
}

/// Whoever has a key can name as many people as they like; the book of names does not fill up.
#[test]
fn setup_calls_name_so_many_people() {
    let mut script = String::from("issue K1 deployment\n");
    for who in 0..300 {
        script.push_str(&format!("setup K1 who-{who}@x.com -> set-up tv=1\n"));
    }
    let world = check_in(World::ready(), &script);
    assert_eq!(world.ledger.identities_of(LicenseId(1)).count(), 256);
    let subjects = world.store.keys().filter(|(table, _)| *table == lease::rows::table::SUBJECT);
    assert_eq!(subjects.count(), 257);
    check_in(
        world,
        "setup K1 who-7@x.com             -> set-up tv=1
         setup K1 who-7@x.com             -> set-up again tv=1
         setup K1 who-299@x.com           -> set-up tv=1",
    );
}

/// A full book of names keeps nobody from working.
#[test]
fn a_full_book_of_names_keeps_nobody_from_working() {
    let limits =
        lease::limits::LedgerLimits { subjects: 1, ..lease::limits::LedgerLimits::PRODUCTION };
    let mut world = World::founded(limits);
    world.root(Command::PinVendor(crate::world::vendor("vector-de")));
    world.root(crate::world::import(crate::world::terms("alpha", "davinci", 5, 15)));
    let world = check_in(
        world,
        "client C1 anna@x.com
         issue K1 device client=C1
         issue K2 deployment
         device K1 fp-1 email=bert@x.com  -> seat tv=1
         device K1 fp-1 email=bert@x.com  -> same tv=1
         verify K1 fp-1 email=bert@x.com  -> same tv=1
         verify K1 fp-1 email=bert@x.com client=C9 -> no ClientMismatch
         device K1 fp-2                   -> seat tv=1
         verify K1 fp-2 email=bert@x.com  -> no EmailNotAuthorized
         trial K3 fp-3 email=carl@x.com   -> seat tv=1
         verify K3 fp-3 email=carl@x.com client=C77 -> same tv=1
         setup K2 dora@x.com              -> set-up tv=1",
    );
    assert_eq!(world.ledger.identities_of(LicenseId(1)).count(), 0);
}

#[test]
fn who_may_do_what_with_licenses() {
    check(
        "operator 7 auditor
         operator 8 operator
         issue K1 evaluation as=7         -> no RoleTooNarrow
         issue K1 evaluation as=8
         license K1 suspend as=7          -> no RoleTooNarrow
         client C1 anna@x.com as=7        -> no RoleTooNarrow
         user U1 root as=8                -> no RoleTooNarrow
         window eval 1 1 as=8             -> no RoleTooNarrow
         issue K2 evaluation as=a1        -> no RoleTooNarrow
         issue K2 evaluation face=device  -> no RoleTooNarrow
         host K1 h-1 face=deployment      -> no RoleTooNarrow
         leave K1 c-1 face=device         -> no RoleTooNarrow
         trial K5 fp-1 face=evaluation    -> no RoleTooNarrow",
    );
}

/// A cancelled license gives its seats back over several entries when they are many.
#[test]
fn many_seats_come_free_step_by_step() {
    let limits = lease::limits::LedgerLimits {
        expiries_per_entry: 2,
        ..lease::limits::LedgerLimits::PRODUCTION
    };
    let mut world = World::founded(limits);
    world.root(Command::PinVendor(crate::world::vendor("vector-de")));
    world.root(crate::world::import(crate::world::terms("alpha", "davinci", 5, 15)));
    check_in(
        world,
        "issue K1 evaluation
         host K1 h-1                      -> seat tv=1
         host K1 h-2                      -> seat tv=1
         host K1 h-3                      -> seat tv=1
         host K1 h-4                      -> seat tv=1
         host K1 h-5                      -> seat tv=1
         license K1 revoke
         due                              -> - now
         seats alpha                      -> commit 3+2 overage 0+15 total+17 -:3/20
         time +1ms
         seats alpha                      -> commit 1+4 overage 0+15 total+19 -:1/20
         time +1ms
         due                              -> - -
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20",
    );
}

/// Whoever has a key can name as many clusters as they like; the rows do not grow without bound.
#[test]
fn forgotten_clusters_are_forgotten() {
    let mut script = String::from("issue K1 deployment\n");
    for cluster in 0..80 {
        script.push_str(&format!("cluster K1 c-{cluster} -> seat tv=1\nleave K1 c-{cluster}\n"));
    }
    let world = check_in(World::ready(), &script);
    assert_eq!(world.ledger.activations_of(LicenseId(1)).count(), 65);
    assert!(world.ledger.activation_of_holder(LicenseId(1), "c-79").is_some());
}

#[test]
fn ids_that_are_taken_are_refused() {
    let mut world = World::ready();
    world.root(Command::IssueLicense(Box::new(license(1, Face::Evaluation, "alpha"))));
    let claim = || Claim::Evaluation { org: "".into(), project: "".into(), version: "".into() };
    let mut ask = |holder: &str, fresh, claim| {
        let ask = Command::Activate(Box::new(activate(Some(1), holder, fresh, claim)));
        match world.apply(lease::entry::Actor::Face(Face::Evaluation), None, ask) {
            Outcome::Refused(refusal) => format!("{:?}", refusal.code),
            Outcome::Activated(activated) => format!("{}", activated.is_new),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask("h-1", 1, claim()), "true");
    assert_eq!(ask("h-2", 1, claim()), "LeaseIdTaken");
    assert_eq!(ask("h-1", 2, claim()), "false");
    let device = Claim::Device { identity: identity("a", 1, 2), session: session() };
    assert_eq!(ask("h-1", 2, device), "RoleTooNarrow");
    assert_eq!(ask(&"h".repeat(129), 3, claim()), "LimitReached");
    let org = "o".repeat(257).into();
    let long = Claim::Evaluation { org, project: "".into(), version: "".into() };
    assert_eq!(ask("h-3", 3, long), "LimitReached");
}

/// No rule looks into a sealed session key, so a node that cannot open it decides alike.
#[test]
fn what_a_session_is_sealed_with_decides_nothing() {
    let apply = |bytes: Vec<u8>| {
        let mut world = check_in(
            World::ready(),
            "client C1 anna@x.com
             issue K1 device client=C1",
        );
        let session = lease::command::Sealed { nonce: [bytes[0]; 12], bytes };
        let claim = Claim::Device { identity: identity("anna@x.com", 1, 2), session };
        let ask = Command::Activate(Box::new(activate(Some(1), "fp-1", 1, claim)));
        let outcome = world.apply(lease::entry::Actor::Face(Face::Device), None, ask);
        assert!(matches!(outcome, Outcome::Activated(_)), "{outcome:?}");
        (outcome, world.ledger.audit_head())
    };
    assert_eq!(apply(vec![1; 48]), apply(vec![2; 48]));
}

/// A seat for which an offline token is outstanding stays taken until the token has run out on
/// every clock, whatever becomes of its activation; its holder gets this very seat again.
#[test]
fn a_seat_with_a_token_outstanding_is_not_free() {
    check(
        "entitle beta davinci 3 0 tokens=1 skew=+10s  -> imported
         issue K1 deployment beta ttl=+60s offline=+1h
         cluster K1 c-1                               -> seat tv=1 token
         held beta                                    -> held 1 borrowed 0
         time +60s                                    # longer silent than the slot allows
         cluster K1 c-2                               -> no SlotInUse
         activation K1 c-1 revoke
         active K1                                    -> 0 c-1:Revoked+
         cluster K1 c-1                               -> no ActivationRevoked
         cluster K1 c-2                               -> no SlotInUse # it may be at work still
         activation K1 c-1 reinstate
         beat K1 c-1                                  -> no UnknownActivation
         cluster K1 c-1                               -> seat tv=1 token
         seats beta                                   -> commit 1+2 overage 0+0 total+2 -:1/3
         leave K1 c-1                                 # given back by its holder: free at once
         seats beta                                   -> commit 0+3 overage 0+0 total+3 -:0/3
         cluster K1 c-2                               -> seat tv=1 token
         license K1 cancel
         active K1                                    -> 0 c-1:Released c-2:Released+
         activation K1 c-2 remove
         active K1                                    -> 0 c-1:Released
         seats beta                                   -> commit 1+2 overage 0+0 total+2 -:1/3
         time +3610s
         seats beta                                   -> commit 1+2 overage 0+0 total+2 -:1/3
         time +1ms
         seats beta                                   -> commit 0+3 overage 0+0 total+3 -:0/3",
    );
    check(
        "entitle beta davinci 3 0 tokens=1            -> imported
         issue K1 evaluation beta act=+30m offline=+1h
         issue K2 evaluation beta
         host K2 h-1                                  -> seat tv=1
         host K1 h-1                                  -> seat tv=1 token
         host K1 h-2                                  -> seat tv=1 token
         activation K1 h-1 revoke writeoff=1
         activation K1 h-2 revoke
         activation K1 h-2 revoke                     -> unchanged
         held beta                                    -> held 1 borrowed 0
         activation K1 h-2 revoke writeoff=1
         activation K1 h-2 revoke writeoff=1          -> unchanged
         held beta                                    -> held 0 borrowed 0
         seats beta                                   -> commit 1+2 overage 0+0 total+2 -:1/3
         host K1 h-3                                  -> seat tv=1 token
         time civil=+30m
         validate K1 h-3                              -> same tv=1 token
         time civil=+1ms                              # the period is over, the token not yet
         validate K1 h-3                              -> no ActivationExpired
         active K1                                    -> 1 h-1:Revoked h-2:Revoked h-3:Active+
         time civil=+10m
         active K1                                    -> 0 h-1:Revoked h-2:Revoked h-3:Released",
    );
}

/// What was revoked or removed while its token is out may be at work: it counts against its plan.
#[test]
fn a_plan_counts_seats_with_a_token_outstanding() {
    check(
        "entitle beta davinci 9 0 tokens=1 skew=+10s  -> imported
         client C1 anna@x.com
         issue K1 device beta client=C1 max=1 offline=+1h
         device K1 fp-1                               -> seat tv=1 token
         activation K1 fp-1 revoke
         device K1 fp-2                               -> no TooManyActivations
         activation K1 fp-1 remove
         active K1                                    -> 0
         device K1 fp-2                               -> no TooManyActivations
         verify K1 fp-1                               -> no UnknownActivation
         activation K1 fp-1 revoke                    -> no UnknownActivation
         device K1 fp-1                               -> seat tv=1 token # its own seat again
         seats beta                                   -> commit 1+8 overage 0+0 total+8 -:1/9
         active K1                                    -> 1 fp-1:Active+
         activation K1 fp-1 remove
         time +3610s
         device K1 fp-2                               -> no TooManyActivations
         time +1ms
         device K1 fp-2                               -> seat tv=1 token
         active K1                                    -> 1 fp-2:Active+
         activation K1 fp-2 remove writeoff=1
         device K1 fp-3                               -> seat tv=1 token
         seats beta                                   -> commit 1+8 overage 0+0 total+8 -:1/9",
    );
    check(
        "entitle beta davinci 9 0 tokens=1 skew=+10s  -> imported
         issue K1 evaluation beta act=+30m max=1 offline=+1h
         host K1 h-1                                  -> seat tv=1 token
         time +20m
         activation K1 h-1 remove
         validate K1 h-1                              -> no UnknownActivation
         host K1 h-1                                  -> seat tv=1 token # a period of its own
         time civil=+20m                              # the kept seat ended with its own period
         validate K1 h-1                              -> seat tv=1 token
         seats beta                                   -> commit 1+8 overage 0+0 total+8 -:1/9",
    );
}

/// Hosts of one name are told apart by the holder that the gateway makes of host, organisation and
/// project; should two meet all the same, the first is not taken over.
#[test]
fn an_activation_stays_its_organisations() {
    let world = check_in(
        World::ready(),
        "issue K1 evaluation
         host K1 h-1                      -> seat tv=1
         host K1 h-1 org=acme             -> same tv=1
         host K1 h-1 org=evil project=p version=2 -> same tv=1
         host K1 h-1 project=q            -> same tv=1",
    );
    let row = world.ledger.activation_of_holder(LicenseId(1), "h-1").expect("active");
    assert_eq!((&*row.org, &*row.project, &*row.version), ("acme", "p", "2"));
}
