//! The far end of the audit log.

use crate::apply::{Context, Decision, refuse};
use crate::audit::{AuditDetail, AuditKind};
use crate::ledger::Ledger;
use crate::operate::AuditFloor;
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;

impl Ledger {
    /// Moves the floor; whoever keeps the blocks lets go of those below it. The newest event is
    /// never pruned, so the chain always has an end to go on from.
    pub(super) fn prune_audit(
        &mut self,
        context: &Context,
        upto_seq: u64,
        hash: [u8; 32],
    ) -> Decision {
        let floor = self.audit_floor();
        if upto_seq == floor.seq && hash == floor.hash {
            return Ok(Outcome::Unchanged);
        }
        if upto_seq <= floor.seq || upto_seq >= self.audit_head().seq {
            return refuse(RefusalCode::UnknownAuditEvent);
        }
        self.state.set_audit_floor(AuditFloor { seq: upto_seq, hash });
        let detail = AuditDetail::AuditFloor { seq: upto_seq };
        self.record(&context.origin, Event::new(AuditKind::AuditPruned, detail));
        Ok(Outcome::Done)
    }
}
