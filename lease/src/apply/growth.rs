//! What takes something new, and when that is refused.
//!
//! Two states of affairs stand in its way: a disk that is nearly full anywhere (`NOSPACE`), and the
//! grace after an epoch was opened, in which holders of the former one come back. What ends
//! something, keeps it or makes it safe goes on in both: returns, renewals, removals, membership,
//! alarms, secrets. Whoever asks for what is there already takes nothing: so a row is judged after
//! the look for an earlier answer, and a seat where it is taken (`seat`).

use crate::apply::{Context, is_name};
use crate::command::Command;
use crate::ids::Name;
use crate::ledger::Ledger;
use crate::operate::AlarmKind;
use crate::outcome::{Refusal, RefusalCode};

/// What a command takes that was not there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adds {
    /// Nothing, or no more than what it keeps working or ends.
    Nothing,
    /// Rows that stay.
    Rows,
    /// A seat, unless the asker has it already.
    Seat,
    /// A pool, unless the one it names is there.
    Pool,
    /// A token that is believed for long, unless the answer was lost.
    Borrow,
}

/// The one table of what takes something new.
pub(crate) fn adds(command: &Command) -> Adds {
    match command {
        Command::Checkout(_)
        | Command::ClassicCheckout(_)
        | Command::Activate(_)
        | Command::Verify(_)
        | Command::StartTrial(_) => Adds::Seat,
        Command::PinVendor(_)
        | Command::ImportPackage(_)
        | Command::ImportEntitlement(_)
        | Command::RegisterApp(_)
        | Command::IssueLicense(_)
        | Command::AddClient(_)
        | Command::AddUser(_)
        | Command::AddApiKey(_)
        | Command::PutProduct(_) => Adds::Rows,
        Command::SetPool(_) | Command::TransferSeats(_) => Adds::Pool,
        Command::Borrow(_) => Adds::Borrow,
        // Keeps, ends or renews what is there.
        Command::Heartbeat { .. }
        | Command::Return(_)
        | Command::Release { .. }
        | Command::ReturnBorrow(_)
        | Command::WriteOff(_)
        | Command::ClassicReturn { .. }
        | Command::Deactivate(_)
        | Command::ReportUsage(_)
        // Its seat was granted before the epoch began.
        | Command::Reclaim(_)
        // Decides about what is there.
        | Command::SuspendPackage(_)
        | Command::ResumePackage(_)
        | Command::RevokePackage(_)
        | Command::ChangeLicense(_)
        | Command::ChangeActivation(_)
        | Command::ChangeClient(_)
        | Command::SetBorrowRules(_)
        | Command::SetBudget(_)
        | Command::SetAppPolicy(_)
        | Command::RotateAppSecret(_)
        | Command::SetKeyWindow(_)
        // Removes.
        | Command::RemoveApp { .. }
        | Command::RemoveProduct { .. }
        | Command::RemoveApiKey { .. }
        | Command::RemoveOperator(_)
        | Command::EraseSubject(_)
        | Command::RemovePool { .. }
        | Command::PruneAudit { .. }
        | Command::ReleaseReserved { .. }
        // Runs the cluster: a node with room is how some get out of want of space.
        | Command::Tick
        | Command::InitCluster(_)
        | Command::OpenEpoch(_)
        | Command::AgreeStateSum { .. }
        | Command::PutMember(_)
        | Command::AddTicket(_)
        | Command::JoinMember(_)
        | Command::CompleteJoin { .. }
        | Command::RemoveMember(_)
        | Command::AddOperator(_)
        | Command::RaiseAlarm(_)
        | Command::ClearAlarm { .. }
        // Keeps it safe.
        | Command::PublishSigningKey(_)
        | Command::RetireSigningKey { .. }
        | Command::ForgetSigningKey { .. }
        | Command::PutSecret(_)
        | Command::RemoveSecret { .. }
        | Command::WrapDataKey(_)
        | Command::ReplaceDataKey(_)
        | Command::ResealActivation(_)
        | Command::Repepper(_)
        | Command::RetireDataKey { .. }
        | Command::PutTrustAnchor(_)
        | Command::RemoveTrustAnchor { .. } => Adds::Nothing,
    }
}

impl Ledger {
    /// Refuses what takes something new while a disk is nearly full.
    pub(crate) fn has_space(&self) -> Result<(), Refusal> {
        let mut alarms = self.state.operate().alarms().keys();
        if alarms.any(|(_, kind)| *kind == AlarmKind::NoSpace) {
            return Err(Refusal::new(RefusalCode::NoSpace));
        }
        Ok(())
    }

    /// Whether a command that was not answered before may leave what it leaves.
    pub(super) fn may_add(&self, context: &Context, command: &Command) -> Result<(), Refusal> {
        match context.adds {
            Adds::Rows => self.has_space(),
            Adds::Pool if self.is_new_pool(command) => self.has_space(),
            Adds::Nothing | Adds::Pool | Adds::Seat | Adds::Borrow => Ok(()),
        }
    }

    /// Whether somebody who has none may have a seat now; is there one is asked after that.
    pub(super) fn may_take_seat(&self, context: &Context) -> Result<(), Refusal> {
        if context.adds != Adds::Seat {
            return Ok(());
        }
        self.has_space()?;
        self.grace().map_or(Ok(()), |grace| {
            let wait = grace.until_led_ms.saturating_sub(self.clock().led_ms);
            Err(Refusal { retry_in_ms: Some(wait), ..Refusal::new(RefusalCode::Grace) })
        })
    }

    fn is_new_pool(&self, command: &Command) -> bool {
        let (package, pool): (&Name, Option<&Name>) = match command {
            Command::SetPool(set) => (&set.package, Some(&set.pool)),
            Command::TransferSeats(transfer) => (&transfer.package, transfer.to.as_ref()),
            _ => return false,
        };
        let known = self.state.slot(package).map(|slot| self.state.at(slot));
        match (known, pool) {
            (Some(package), Some(pool)) => is_name(pool) && !package.pools().contains_key(pool),
            _ => false,
        }
    }
}
