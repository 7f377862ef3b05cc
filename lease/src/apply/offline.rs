//! Offline use of leases, and the classic face.

use crate::apply::{Context, Decision, refuse};
use crate::command::Command;
use crate::ledger::Ledger;
use crate::outcome::RefusalCode;

impl Ledger {
    /// One of the commands about offline use and the classic face.
    pub(super) fn perform_offline(&mut self, _context: &Context, _command: &Command) -> Decision {
        refuse(RefusalCode::OfflineNotAllowed)
    }
}
