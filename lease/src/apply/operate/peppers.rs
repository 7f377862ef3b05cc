//! Peppers that are replaced: stored forms move to the newest version one by one, and an old
//! version goes when nothing depends on it.
//!
//! A stored form names its version ([`pepper_version`]), so that what depends on a version can be
//! counted, and a form under a version that is gone already is never stored.

use crate::apply::{Decision, refuse};
use crate::ledger::Ledger;
use crate::operate::{
    CLIENT_SECRET_PEPPER, OPERATOR_PEPPER, Peppered, Repepper, pepper_of_secret, pepper_version,
};
use crate::outcome::{Outcome, Refusal, RefusalCode};

impl Ledger {
    /// Not an event: the same credential is as good as before.
    pub(super) fn repepper(&mut self, change: &Repepper) -> Decision {
        let Repepper { row, before, after } = change;
        if pepper_version(after) <= pepper_version(before) {
            return refuse(RefusalCode::VersionConflict);
        }
        match row {
            Peppered::App(app) => {
                let known = self.state.apps().get(app).filter(|row| row.secret_mac == *before);
                let Some(row) = known.cloned() else { return Ok(Outcome::Unchanged) };
                self.may_store(CLIENT_SECRET_PEPPER, after)?;
                self.state.put_app(crate::rows::App { secret_mac: *after, ..row });
            }
            Peppered::Operator(operator) => {
                let known = self.state.operators().get(operator);
                let known = known.filter(|row| row.token_mac == *before);
                let Some(row) = known.cloned() else { return Ok(Outcome::Unchanged) };
                self.may_store(OPERATOR_PEPPER, after)?;
                if self.state.operator_by_mac(after).is_some() {
                    return refuse(RefusalCode::VersionConflict);
                }
                self.state.remove_operator(*operator);
                self.state.put_operator(crate::command::Operator { token_mac: *after, ..row });
            }
        }
        Ok(Outcome::Done)
    }

    /// Refuses a stored form under a version of a pepper that is gone: nothing would ever match it.
    pub(in crate::apply) fn may_store(&self, pepper: &str, mac: &[u8; 32]) -> Result<(), Refusal> {
        let version = pepper_version(mac);
        let versions: Vec<u32> = self.pepper_versions(pepper).collect();
        if versions.iter().any(|newer| *newer > version) && !versions.contains(&version) {
            return Err(Refusal::new(RefusalCode::VersionConflict));
        }
        Ok(())
    }

    /// Refuses to let go of a version that stored forms depend on, or of the newest.
    pub(super) fn may_drop_secret(&self, name: &str) -> Result<(), Refusal> {
        let Some((pepper, version)) = pepper_of_secret(name) else { return Ok(()) };
        let is_newest = self.pepper_versions(pepper).max() == Some(version);
        if is_newest || self.stored_under(pepper, version) > 0 {
            return Err(Refusal::new(RefusalCode::DataKeyInUse));
        }
        Ok(())
    }
}
