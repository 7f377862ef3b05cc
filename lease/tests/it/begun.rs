//! What begins without a key: a trial is given again to whoever has it, and hosts under the open
//! license are counted by address.

use crate::script::check;

/// The answer to a trial may be lost; proposing the very same one brings it again.
#[test]
fn a_running_trial_is_given_again_and_no_other() {
    check(
        "trial K1 fp-1 at=5               -> seat tv=1
         trial K1 fp-1 at=5               -> same tv=1
         trial K2 fp-1 at=5               -> no TrialUsed
         trial K2 fp-2 at=5               -> seat tv=1
         trial K2 fp-1 at=5               -> no TrialUsed   # another device's
         trial K3 fp-3 at=5               -> seat tv=1
         trial K4 fp-4 at=5               -> seat tv=1
         trial K5 fp-5 at=5               -> seat tv=1
         trial K6 fp-6 at=5               -> no TooManyGuesses in=86400s
         trial K1 fp-1 at=5               -> same tv=1      # begins nothing
         active K1                        -> 1 fp-1:Active+
         license K1 suspend
         trial K1 fp-1                    -> no LicenseSuspended
         license K1 resume
         license K1 rotate:K9
         trial K1 fp-1                    -> no TrialUsed   # the key proposed is not its key
         activation K2 fp-2 revoke
         trial K2 fp-2                    -> no ActivationRevoked
         activation K3 fp-3 remove
         trial K3 fp-3                    -> no TrialUsed
         time civil=+14d
         trial K4 fp-4                    -> same tv=1
         time civil=+1ms
         trial K4 fp-4                    -> no ActivationExpired
         license K5 cancel
         trial K5 fp-5                    -> no LicenseCancelled
         ban C77
         trial K4 fp-4                    -> no ClientBanned",
    );
}

/// Hosts are as easily made up as fingerprints.
#[test]
fn an_address_has_so_many_new_hosts_without_a_key_a_day() {
    let mut script = String::from("issue K1 evaluation open=1\n");
    for number in 0..5 {
        script.push_str(&format!("host - h-{number} at=5 -> seat tv=1\n"));
    }
    check(&format!(
        "{script}
         host - h-5 at=5                  -> no TooManyGuesses in=86400s
         host - h-1 at=5                  -> same tv=1      # begins nothing
         host K1 h-6 at=5                 -> seat tv=1      # shows a key
         host - h-5 at=6                  -> seat tv=1
         trial K2 fp-1 at=5               -> seat tv=1      # counted apart
         host K9 h-7 at=5                 -> no UnknownLicenseKey
         activation K1 h-1 remove
         host - h-1 at=5                  -> no TooManyGuesses in=86400s
         time led=+86400s
         host - h-1 at=5                  -> seat tv=1"
    ));
}
