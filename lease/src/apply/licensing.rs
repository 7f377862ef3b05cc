//! License keys and what is activated under them.

use crate::apply::{Context, Decision, refuse};
use crate::command::Command;
use crate::ledger::Ledger;
use crate::license::KeyWindow;
use crate::outcome::RefusalCode;

impl Ledger {
    /// One of the commands about licenses, activations, clients and the catalog.
    pub(super) fn perform_licensing(&mut self, _context: &Context, _command: &Command) -> Decision {
        refuse(RefusalCode::UnknownLicense)
    }

    /// Which versions of a rotating key are in use.
    pub(super) fn set_key_window(&mut self, _context: &Context, _window: &KeyWindow) -> Decision {
        refuse(RefusalCode::VersionConflict)
    }
}
