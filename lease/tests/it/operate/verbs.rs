//! Tables of what operators and nodes do with the cluster itself.

use lease::operate::AlarmKind;

use crate::script::check;

/// Founded by one node, whose data key is wrapped, with a signing key.
const NODE: &str = "member 1
                    wrap 1 1
                    kid k1 1
                    audit -> MemberPut DataKeyWrapped SigningKeyPublished";

#[track_caller]
fn check_node(script: &str) {
    check(&format!("{NODE}\n{script}"));
}

/// What takes something new is refused while a disk is nearly full; all else goes on.
#[test]
fn nothing_new_is_taken_without_space() {
    check_node(
        "entitle beta davinci 2 2 ttl=+60s skew=+10s tokens=1 borrow=+1h seats=2 -> imported
         client C1 anna@x.com
         issue K1 device client=C1
         issue K2 deployment ttl=+1h
         issue K3 evaluation open=1
         device K1 fp-1                   -> seat tv=1
         cluster K2 c-1                   -> seat tv=1
         checkout L1 key=a                -> commit seq=1 in=900s
         checkout L2 beta                 -> commit seq=1 in=60s
         checkout L3 beta                 -> commit seq=1 in=60s
         borrow L3:1 +1m                  -> borrowed seq=2 in=60s token v1 for=60s
         transfer alpha team 2
         alarm 1 nospace
         alarms                           -> 1:NOSPACE
         checkout L1 key=a                -> commit seq=1 in=900s again
         checkout L4                      -> no NoSpace
         checkout L4 key=b                -> no NoSpace
         classic L4 alpha                 -> no NoSpace
         device K1 fp-1                   -> same tv=1
         device K1 fp-2                   -> no NoSpace
         verify K1 fp-1                   -> same tv=1
         beat K2 c-1                      -> same tv=1
         cluster K2 c-1                   -> same tv=1
         host - h-1                       -> no NoSpace
         setup K2 who@x.com               -> no NoSpace
         trial K4 fp-9                    -> no NoSpace
         issue K5 device client=C1        -> no NoSpace
         client C2 bert@x.com             -> no NoSpace
         catalog P1 studio 1              -> no NoSpace
         user U1 root                     -> no NoSpace
         apikey 1                         -> no NoSpace
         pin other-de                     -> no NoSpace
         register 2 davinci               -> no NoSpace
         import gamma davinci 1 1         -> no NoSpace
         entitle gamma davinci 1 1        -> no NoSpace
         transfer alpha group 1           -> no NoSpace
         setpool alpha group 1            -> no NoSpace
         transfer alpha team 1
         setpool alpha team 4
         borrow L2:1 +1m                  -> no NoSpace
         borrow L3:1 +1m                  -> borrowed seq=2 in=60s token v1 for=60s
         heartbeat L1:1 L2:1              -> seq=2 in=900s; seq=2 in=60s token v1 for=60s
         unborrow L3:2                    -> seq=3 in=60s token v2 for=60s
         release L2                       -> no OfflineTokenOutstanding
         writeoff L2
         return L1                        -> cost=0 held=0s
         leave K2 c-1
         activation K1 fp-1 revoke
         license K1 suspend
         suspend alpha
         rotate 1 secret=7                -> app 1 gen=2
         ban C1
         ticket                           -> node 2
         join 2 keys=1
         operator 7 admin
         unmember 2
         retired k1                       -> -
         time +60s
         clear 1 nospace
         alarms                           -> -
         resume alpha
         checkout L4 gen=2                -> commit seq=1 in=900s",
    );
}

/// Only want of space stands in the way of anything.
#[test]
fn other_alarms_refuse_nothing() {
    for kind in AlarmKind::ALL {
        let answer = if kind == AlarmKind::NoSpace { "no NoSpace" } else { "commit seq=1 in=900s" };
        check_node(&format!("alarm 1 {}\ncheckout L1 -> {answer}", kind.name()));
    }
}

#[test]
fn an_alarm_is_raised_once_and_cleared_once() {
    check_node(
        "alarm 2 lag                      -> no UnknownMember
         alarm 1 lag text=5s
         alarm 1 lag text=5s              -> unchanged
         alarm 1 lag text=6s
         alarm 1 clock as=1               -> no RoleTooNarrow
         alarm 1 cert
         alarms                           -> 1:CERT 1:LAG
         audit                            -> Refused AlarmRaised Refused AlarmRaised
         clear 1 lag
         clear 1 lag                      -> no UnknownAlarm
         clear 1 lag as=n1                -> unchanged
         clear 1 cert as=n1
         operator 7 auditor
         clear 1 cert as=7                -> no RoleTooNarrow
         alarms                           -> -",
    );
}

#[test]
fn a_node_joins_by_ticket_once() {
    check_node(
        "ticket replaces=9                -> no UnknownMember
         ticket valid=+25h                -> no LimitReached
         ticket learner=1 replaces=1      -> no LimitReached     # a voter by a learner
         ticket key=a                     -> node 2
         ticket key=a                     -> node 2
         ticket key=a mac=2               -> node 2 other token
         members                          -> 1 ticket:2
         join 2 mac=2 keys=1              -> no UnknownTicket
         join 3 keys=1                    -> no UnknownTicket
         join 2                           -> no LimitReached     # no data key
         join 2 keys=2                    -> no VersionConflict  # not the one in use
         join 2 keys=1,2                  -> no VersionConflict  # one that is not in use
         join 2 keys=1,1                  -> no VersionConflict
         join 2 keys=1 as=1               -> no RoleTooNarrow
         completed 2                      -> no UnknownTicket
         join 2 keys=1
         join 2 keys=1                    -> unchanged
         join 2 keys=1 dir=9              -> no UnknownTicket    # another directory
         members                          -> 1 2 ticket:2+
         completed 2
         completed 2                      -> unchanged
         join 2 keys=1                    -> no UnknownTicket
         kid k2 2 as=n2
         ticket valid=+1m                 -> node 3
         time led=+60s
         join 3 keys=1                    -> no UnknownTicket
         ticket                           -> node 4
         members                          -> 1 2 ticket:4 former:3
         unmember 4
         join 4 keys=1                    -> no UnknownTicket
         ticket                           -> node 5
         keys                             -> 1:1 2:1",
    );
}

/// Whoever is no member does not become one by saying so.
#[test]
fn only_founding_puts_nodes_that_no_ticket_let_in() {
    check(
        "member 2 as=n1                                 # the first of all
         member 2                         -> unchanged
         member 2 dir=7                   -> no NodeIdTaken
         member 2 zone=b                  -> no RoleTooNarrow    # another's row
         member 2 zone=b as=n2
         member 2 zone=c                  -> no RoleTooNarrow
         member 2 zone=c as=1
         member 3 as=n3                   -> no UnknownMember    # there is an operator
         member 3 as=1                    -> no UnknownMember
         wrap 2 1
         wrap 3 1                         -> no UnknownMember
         kid k3 3 as=n3                   -> no UnknownMember
         kid k2 2 as=n3                   -> no RoleTooNarrow
         ticket                           -> node 3
         member 3 as=n3                   -> no UnknownMember
         join 3 keys=1
         member 3 zone=x as=n3
         unmember 3
         member 3 as=n3                   -> no NodeIdTaken
         unmember 3                       -> unchanged
         unmember 9                       -> no UnknownMember
         unmember 2                       -> no LimitReached     # the last
         members                          -> 2 former:3",
    );
}

#[test]
fn a_removed_nodes_key_verifies_for_an_hour_more_or_not_at_all() {
    check_node(
        "ticket                           -> node 2
         join 2 keys=1
         kid k2 2 as=n2
         alarm 2 lag
         unmember 2
         alarms                           -> -
         keys                             -> 1:1
         retired k1                       -> -
         retired k2                       -> 3600s
         kid k4 2 as=n2                   -> no UnknownMember
         forget k2                        -> no VersionConflict
         audit                            -> MemberInvited MemberJoined SigningKeyPublished \
             AlarmRaised SigningKeyRetired MemberRemoved Refused Refused
         time civil=+3600s
         forget k2                        -> no VersionConflict
         time civil=+1ms
         forget k2
         forget k2                        -> unchanged
         forget k1                        -> unchanged
         ticket                           -> node 3
         join 3 keys=1
         kid k3 3 as=n3
         unmember 3
         unmember 3                       -> unchanged
         unmember 3 revoke=1                                # after all
         retired k3                       -> -
         unmember 3 revoke=1              -> unchanged
         ticket                           -> node 4
         join 4 keys=1
         kid k4 4 as=n4
         unmember 4 revoke=1
         kid k4 4 as=n4                   -> no UnknownMember
         retired k4                       -> -",
    );
}

#[test]
fn the_data_key_is_replaced_with_everything_under_it() {
    check_node(
        "ticket                           -> node 2
         join 2 keys=1
         secret s1
         secret s2
         unkey 1                          -> no DataKeyInUse
         unkey 7                          -> unchanged
         rekey 1                          -> no VersionConflict
         rekey 3                          -> no VersionConflict
         rekey 2 nodes=1                  -> no VersionConflict
         rekey 2 nodes=1,2,3              -> no VersionConflict
         rekey 2 nodes=1,1                -> no VersionConflict
         rekey 2 secrets=s1:2             -> no VersionConflict
         rekey 2 secrets=s1:2,s1:2,s2:2   -> no VersionConflict
         rekey 2 secrets=s1:2,s2:1        -> no VersionConflict
         rekey 2 secrets=s1:2,s2:2,s3:1   -> no VersionConflict
         keys                             -> 1:1 2:1 s1:1 s2:1
         rekey 2 as=n1                    -> no RoleTooNarrow
         rekey 2 nodes=2,1 secrets=s2:2,s1:2
         keys                             -> 1:1 1:2 2:1 2:2 s1:2 s2:2
         ticket                           -> node 3
         join 3 keys=1                    -> no VersionConflict  # replaced meanwhile
         join 3 keys=1,2
         unkey 2                          -> no DataKeyInUse
         unkey 1
         unkey 1                          -> unchanged
         keys                             -> 1:2 2:2 3:2 s1:2 s2:2
         unsecret s1
         unsecret s1                      -> unchanged
         rekey 3
         keys                             -> 1:2 1:3 2:2 2:3 3:2 3:3 s2:3
         audit                            -> MemberInvited MemberJoined SecretStored SecretStored \
             Refused Refused Refused DataKeyReplaced MemberInvited Refused MemberJoined \
             DataKeyRetired SecretRemoved DataKeyReplaced",
    );
}

#[test]
fn a_session_is_sealed_anew_unless_somebody_was_faster() {
    check_node(
        "client C1 anna@x.com
         issue K1 device client=C1
         device K1 fp-1                   -> seat tv=1
         audit                            -> ClientAdded LicenseIssued LeaseGranted Activated
         reseal K1 fp-1 stale fresh       -> unchanged
         reseal K1 fp-1 present fresh
         reseal K1 fp-1 present fresh     -> unchanged
         reseal K1 fp-1 fresh newer
         reseal K1 fp-1 fresh newer as=1  -> no RoleTooNarrow
         audit                            -> Refused",
    );
}

#[test]
fn one_authority_issues() {
    check(
        "anchor a issuing
         anchor a issuing                 -> unchanged
         anchor a retiring                -> no TrustAnchorInUse
         anchor a trusted                 -> no VersionConflict
         unanchor a                       -> no TrustAnchorInUse
         anchor b trusted
         anchor b trusted other=1         -> no VersionConflict
         anchor b issuing
         anchors                          -> a:Retiring b:Issuing
         anchor a issuing                 -> no VersionConflict
         unanchor c                       -> no UnknownTrustAnchor
         unanchor a
         anchors                          -> b:Issuing
         audit                            -> TrustAnchorPut Refused Refused TrustAnchorPut \
             TrustAnchorPut TrustAnchorPut Refused TrustAnchorRemoved",
    );
}

#[test]
fn the_last_lasting_admin_token_stays() {
    check(
        "operator-gone 7                  -> no UnknownOperator
         operator-gone 1                  -> no LastAdmin
         operator 7 admin until=+60s
         operator-gone 1                  -> no LastAdmin
         operator 8 operator
         operator-gone 1                  -> no LastAdmin
         operator-gone 8
         operator 9 admin
         operator-gone 7
         operator-gone 1 as=9
         pin vector-at                    -> no OperatorRevoked
         operator-gone 9 as=9             -> no LastAdmin",
    );
}

#[test]
fn the_audit_log_is_let_go_from_its_far_end() {
    check(
        "prune 0                          -> unchanged
         prune 3
         prune 3                          -> unchanged
         prune 2                          -> no UnknownAuditEvent
         prune 999                        -> no UnknownAuditEvent
         operator 7 operator
         prune 4 as=7                     -> no RoleTooNarrow
         prune 4",
    );
}

#[test]
fn an_application_has_a_policy_while_it_is_there() {
    check(
        "policy 9 rate=5 burst=5          -> no UnknownApp
         policy 1                         -> unchanged
         policy 1 rate=5                  -> no LimitReached
         policy 1 rate=0 burst=1          -> no LimitReached
         policy 1 certs=17                -> no LimitReached
         policy 1 certs=16 rate=5 burst=5
         policy 1 certs=16 rate=5 burst=5 -> unchanged
         policy 1
         policy 1 rate=1 burst=1
         audit                            -> Refused Refused AppPolicySet AppPolicySet AppPolicySet
         remove 1
         policy 1                         -> no UnknownApp",
    );
}

#[test]
fn an_epoch_follows_the_one_before_under_a_new_node() {
    check_node(
        "ticket                           -> node 2
         join 2 keys=1
         kid k2 2 as=n2
         ticket                           -> node 3
         ticket                           -> node 4
         unmember 4
         alarm 2 lag
         unmember 1                                         # its key verifies for an hour more
         epoch 1                          -> no VersionConflict
         epoch 2 same=1                   -> no VersionConflict
         epoch 2 node=4                   -> no NodeIdTaken
         epoch 2 node=1029                -> no LimitReached
         epoch 2 keys=2                   -> no VersionConflict
         epoch 2 keys=1,2                 -> no VersionConflict
         epoch 2 as=1                     -> no RoleTooNarrow
         audit                            -> MemberInvited MemberJoined SigningKeyPublished \
             MemberInvited MemberInvited MemberRemoved AlarmRaised SigningKeyRetired \
             MemberRemoved Refused Refused Refused Refused
         epoch 2 node=7
         audit                            -> SigningKeyRetired MemberRemoved MemberRemoved \
             EpochOpened
         members                          -> 7 former:1 former:2 former:3 former:4
         keys                             -> 7:1
         alarms                           -> -
         retired k1                       -> -
         ticket                           -> node 8
         join 8 keys=1 as=n7
         grace                            -> 900s
         epoch 3
         members                  -> 9 former:1 former:2 former:3 former:4 former:7 former:8",
    );
}

/// Nobody new is let in; who is there goes on.
#[test]
fn in_the_grace_nobody_gets_a_new_seat() {
    check_node(
        "client C1 anna@x.com
         issue K1 device client=C1
         issue K2 deployment
         device K1 fp-1                   -> seat tv=1
         device K1 fp-2                   -> seat tv=1
         activation K1 fp-2 remove
         checkout L1 key=a                -> commit seq=1 in=900s
         time +600s
         epoch 2
         grace                            -> 900s
         checkout L1 key=a                -> commit seq=1 in=900s again
         checkout L2                      -> no Grace in=900s
         time +100s
         checkout L2 key=b                -> no Grace in=800s
         classic L2 alpha                 -> no Grace in=800s
         device K1 fp-2                   -> no Grace in=800s
         device K1 fp-1                   -> same tv=1
         verify K1 fp-1                   -> same tv=1
         cluster K2 c-1                   -> no Grace in=800s
         trial K3 fp-3                    -> no Grace in=800s
         register 2 davinci               -> app 2 gen=1
         issue K5 device client=C1
         heartbeat L1:1                   -> seq=2 in=900s
         checkout L2 alpha product=other  -> no ProductNotPermitted
         return L1                        -> cost=0 held=700s
         time led=+799999ms
         checkout L2                      -> no Grace in=0.001s
         time led=+1ms
         grace                            -> -
         checkout L2                      -> commit seq=1 in=900s
         device K1 fp-2                   -> seat tv=1",
    );
}

/// What is live lasts a full term and through the grace, however late in it the backup was taken;
/// the grace lasts as long as the longest term of what may be out.
#[test]
fn what_is_live_gets_a_full_term() {
    check_node(
        "import short davinci 5 5 ttl=+60s -> imported
         import long davinci 5 5 ttl=+3600s -> imported
         entitle both davinci 5 5 ttl=+60s skew=+10s tokens=1 -> imported
         issue K2 deployment both ttl=+1h offline=+2h
         checkout L1 short                -> commit seq=1 in=60s
         checkout L2 long                 -> commit seq=1 in=3600s
         checkout L3 both                 -> commit seq=1 in=60s
         checkout L4 both                 -> commit seq=1 in=60s
         heartbeat L4:1                   -> seq=2 in=60s token v1 for=60s
         time +40s
         epoch 2
         grace                            -> 3600s
         heartbeat L1:1:idle              -> seq=1 in=3600s
         heartbeat L2:1:idle              -> seq=1 in=3600s
         heartbeat L3:1:idle              -> seq=1 in=3600s
         heartbeat L4:2:idle              -> seq=2 in=3600s token v1 for=60s
         hold L4                          -> v1 ends=60s skew=10s
         time +60s
         heartbeat L1:1                   -> seq=2 in=3540s
         heartbeat L4:2:idle              -> seq=2 in=3540s token v1 for=0s
         time +3540s
         grace                            -> -
         heartbeat L1:2                   -> no LeaseEnded
         heartbeat L4:2                   -> no LeaseEnded",
    );
}

#[test]
fn known_leases_come_back_as_renewals() {
    check_node(
        "register 2 davinci               -> app 2 gen=1
         import fixed davinci 5 5 rotation=0 -> imported
         checkout L1                      -> commit seq=1 in=900s
         checkout L2                      -> commit seq=1 in=900s
         checkout L3 fixed                -> commit seq=1 in=900s
         checkout L4                      -> commit seq=1 in=900s
         heartbeat L2:1                   -> seq=2 in=900s
         return L4                        -> cost=0 held=0s
         reclaim L1:1                     -> no NotReclaimable    # no grace
         audit                            -> AppRegistered PackageImported LeaseGranted \
             LeaseGranted LeaseGranted LeaseGranted LeaseReturned Refused
         time +60s
         epoch 2
         time +100s
         reclaim L1:7 epoch=2             -> no NotReclaimable
         reclaim L1:7 app=2               -> no UnknownLease
         reclaim L1:7 gen=3               -> no CredentialsRevoked
         reclaim L1:7                     -> seq=8 in=900s
         time +10s
         reclaim L1:7                     -> seq=8 in=890s        # the answer was lost
         time +21s
         reclaim L1:7                     -> no RenewalTokenReplayed
         heartbeat L1:8                   -> seq=9 in=900s
         reclaim L2:1                     -> no RenewalTokenReplayed
         reclaim L2:2                     -> seq=3 in=900s
         reclaim L3:1                     -> seq=1 in=900s
         reclaim L3:5                     -> seq=5 in=900s
         reclaim L3:2                     -> seq=5 in=900s
         reclaim L4:1                     -> seq=2 in=900s        # forgotten: a gateway's key
         suspend fixed
         reclaim L3:5                     -> no PackageSuspended
         audit                            -> SigningKeyRetired MemberRemoved EpochOpened Refused \
             Refused Refused LeaseReclaimed RenewalTokenReplayed Refused RenewalTokenReplayed \
             LeaseReclaimed LeaseReclaimed LeaseReclaimed LeaseReclaimed LeaseGranted \
             LeaseReclaimed PackageSuspended Refused",
    );
}

/// A lease that the state does not know takes a seat under its own id, commit first, then overage.
#[test]
fn unknown_leases_come_back_where_there_is_room() {
    check_node(
        "import beta davinci 1 2          -> imported
         import gamma other 1 2           -> imported
         import late davinci 1 1 from=+1d -> imported
         checkout L1 beta                 -> commit seq=1 in=900s
         return L1 key=r                  -> cost=0 held=0s
         register 2 davinci               -> app 2 gen=1
         epoch 2
         reclaim L1:1 beta                -> no LeaseEnded
         reclaim L1:1 beta app=2          -> no UnknownLease
         reclaim L9:3 none                -> no UnknownPackage
         reclaim L9:3 gamma               -> no UnknownPackage
         reclaim L9:3 late                -> no PackageNotYetValid
         reclaim L9:0 beta                -> no NotReclaimable
         audit                            -> PackageImported PackageImported PackageImported \
             LeaseGranted LeaseReturned AppRegistered SigningKeyRetired MemberRemoved EpochOpened \
             Refused Refused Refused Refused Refused Refused
         reclaim L9:3 beta                -> seq=4 in=900s
         audit                            -> LeaseGranted LeaseReclaimed
         reclaim L9:3 beta                -> seq=4 in=900s
         reclaim L9:3 beta app=2          -> no UnknownLease
         reclaim L8:1 beta                -> seq=2 in=900s
         reclaim L7:1 beta                -> seq=2 in=900s
         reclaim L6:1 beta                -> no MaxOverageExceeded in=900s
         usage beta                       -> checkouts 2+2 charged 0 peak 3 ends 1+0+0 \
             sessions 0 0s files 0 other 0
         seats beta                       -> commit 1+0 overage 2+0 total+0 -:3/3
         heartbeat L9:4 L8:2              -> seq=5 in=900s; seq=3 in=900s
         time led=+900s
         reclaim L9:5 beta                -> no NotReclaimable",
    );
}

/// Seats that could have been borrowed since the backup are neither out nor free.
#[test]
fn seats_are_kept_for_borrows_that_are_not_known() {
    check_node(
        "entitle beta davinci 4 6 ttl=+60s skew=+10s borrow=+1h seats=3 reserve=2 -> imported
         entitle gamma davinci 2 2 ttl=+60s skew=+10s borrow=+1h reserve=1 -> imported
         entitle delta davinci 2 2 ttl=+60s skew=+10s tokens=1 -> imported
         entitle over davinci 2 2 ttl=+60s skew=+10s borrow=+1h until=+5m -> imported
         rules gamma max=+30m seats=2
         checkout L1 beta                 -> commit seq=1 in=60s
         borrow L1:1 +10m                 -> borrowed seq=2 in=600s token v1 for=600s
         time +60s
         epoch 2
         kept beta                        -> 2 for=3610s
         kept gamma                       -> 2 for=1810s
         kept delta                       -> -
         kept over                        -> 4 for=250s
         hold L1                          -> v1 ends=3600s skew=10s borrowed
         seats beta                       -> commit 1+3 overage 0+6 total+7 -:1/10
         seats gamma                      -> commit 0+2 overage 0+2 total+2 -:0/4
         reclaim L2:1 gamma               -> seq=2 in=60s
         reclaim L3:1 gamma               -> seq=2 in=60s
         reclaim L4:1 gamma               -> no MaxOverageExceeded in=60s
         borrow L2:2 +1m                  -> no BorrowLimitReached
         borrow L1:2 +20m                 -> borrowed seq=3 in=3600s token v2 for=3600s
         unkeep gamma as=n1               -> no RoleTooNarrow
         unkeep none                      -> no UnknownPackage
         unkeep delta                     -> unchanged
         unkeep gamma
         unkeep gamma                     -> unchanged
         kept gamma                       -> -
         borrow L2:2 +1m                  -> borrowed seq=3 in=60s token v1 for=60s
         reclaim L4:1 gamma               -> seq=2 in=60s
         time civil=+250s led=+20s
         kept over                        -> 4 for=0s
         time civil=+1ms
         kept over                        -> -
         time civil=+3359999ms
         kept beta                        -> 2 for=0s
         time civil=+1ms
         kept beta                        -> -",
    );
}

/// What the lost majority lent is as unknown as what was lent after a backup.
#[test]
fn a_survivor_keeps_seats_for_borrows_too() {
    check_node(
        "entitle beta davinci 1 1 ttl=+60s skew=+10s borrow=+1h seats=2 reserve=1 -> imported
         epoch 2 why=recovered
         kept beta                        -> 1 for=3610s
         reclaim L2:1 beta                -> seq=2 in=60s
         reclaim L3:1 beta                -> no MaxOverageExceeded in=60s",
    );
}

/// More than one cluster may have begun from the same backup: the operator says what was used.
#[test]
fn an_epoch_may_be_far_above_the_one_before() {
    check_node(
        "checkout L1                      -> commit seq=1 in=900s
         epoch 7
         reclaim L1:1 epoch=6             -> no NotReclaimable
         reclaim L1:1                     -> seq=2 in=900s
         epoch 6                          -> no VersionConflict
         epoch 7                          -> no VersionConflict
         epoch 8",
    );
}

/// An activation that the state does not know works on for as long as its plan lets it.
#[test]
fn the_grace_is_as_long_as_an_activation_goes_on() {
    for (plans, grace) in [
        ("issue K1 device", "900s"),
        ("issue K1 device ttl=+24h", "3600s"),
        ("issue K1 device ttl=+1h offline=+2h", "3600s"),
        ("issue K1 device ttl=+400d", "3600s"),
        ("issue K1 device ttl=+24h until=+1h\ntime civil=+2h", "900s"),
    ] {
        check_node(&format!(
            "entitle beta davinci 4 6 ttl=+60s skew=+10s tokens=1 -> imported
             client C1 anna@x.com
             {}
             epoch 2
             grace                        -> {grace}",
            plans.replace("device", "device beta client=C1")
        ));
    }
}

/// Whose seat came from which pool is lost: so it comes from any, and is charged for once.
#[test]
fn a_lost_lease_takes_a_seat_of_any_pool_and_costs_nothing_again() {
    check_node(
        "entitle beta davinci 1 2 ttl=+60s skew=+10s -> imported
         register 2 davinci               -> app 2 gen=1
         budget beta 1
         setpool beta team 2 for=user:anna
         setpool beta work 1 for=app:2
         epoch 2
         reclaim L1:1 beta                -> seq=2 in=60s
         reclaim L2:1 beta                -> seq=2 in=60s
         reclaim L3:1 beta                -> seq=2 in=60s
         reclaim L4:1 beta                -> no MaxOverageExceeded in=60s
         seats beta                       -> commit 1+0 overage 2+0 total+0 -:0/0 team:2/2 work:1/1
         spent beta                       -> 0",
    );
}

/// An operator who knows that nothing was borrowed keeps none.
#[test]
fn no_seats_are_kept_where_no_borrow_is_unknown() {
    for how in ["borrows=none", "why=recovered borrows=none"] {
        check_node(&format!(
            "entitle beta davinci 4 6 ttl=+60s skew=+10s borrow=+1h -> imported
             checkout L1 beta                 -> commit seq=1 in=60s
             borrow L1:1 +10m                 -> borrowed seq=2 in=600s token v1 for=600s
             epoch 2 {how}
             kept beta                        -> -
             hold L1                          -> v1 ends=600s skew=10s borrowed
             reclaim L2:1 beta                -> seq=2 in=60s"
        ));
    }
}
