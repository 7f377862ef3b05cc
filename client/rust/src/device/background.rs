//! Checks while the program runs: at the next one that the license names, and at its end.
//!
//! Only `custom` checks in the background in the reference client; here every mode that names its
//! next check does, since a program may run past it. After a server that could not be reached
//! another try follows in five minutes; what a server decided against ends the checks.

use std::sync::Arc;
use std::time::Duration;

use protocol::device::payload::LicenseData;
use protocol::device::schedule::{self, BACKGROUND_RETRY_MS, CheckMode};
use protocol::device::time::LicenseTime;
use tokio::sync::oneshot;

use super::core::Core;
use crate::verdict::Verdict;

/// Checks until told to stop, or the license is lost.
pub(super) async fn run(core: Arc<Core>, mut stop: oneshot::Receiver<()>) {
    let (began_ms, mut retry_at_ms) = (core.clock.now_ms(), None);
    loop {
        let verdict = core.publish();
        let (Some(license), true) = (core.license(), verdict.permits_use()) else { return };
        let now_ms = core.clock.now_ms();
        let due_ms =
            scheduled_ms(&license, began_ms).map(|at_ms| at_ms.max(retry_at_ms.unwrap_or(at_ms)));
        let until_ms = due_ms.unwrap_or(i64::MAX).min(license.expires_at.unix_ms());
        if due_ms.is_some_and(|due_ms| now_ms >= due_ms) {
            retry_at_ms = match core.verify(true).await {
                Ok(Verdict::Held) => None,
                Ok(Verdict::Lost { .. }) => return,
                Ok(Verdict::Grace { .. }) | Err(_) => {
                    Some(core.clock.now_ms().saturating_add_unsigned(BACKGROUND_RETRY_MS))
                }
            };
            continue;
        }
        let wait_ms = u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or(0);
        let wait = Duration::from_millis(wait_ms).min(LONGEST_SLEEP);
        tokio::select! {
            biased;
            _ = &mut stop => return,
            () = core.network.environment().sleep(wait) => {}
        }
    }
}

/// When the next check is due: at the time that the license names; for `custom` without one, an
/// interval after the last check, or after the program began.
fn scheduled_ms(license: &LicenseData, began_ms: i64) -> Option<i64> {
    match (license.check_mode, license.next_check_at) {
        (CheckMode::None | CheckMode::EachExecution, _) => None,
        (_, Some(next)) => Some(next.unix_ms()),
        (CheckMode::Custom, None) => {
            let last_ms = license.last_check_at.map_or(began_ms, LicenseTime::unix_ms);
            schedule::next_check_ms(CheckMode::Custom, license.check_interval_seconds, last_ms)
        }
        (CheckMode::Monthly | CheckMode::Yearly, None) => None,
    }
}

/// Longest sleep without a look at the clock: timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
