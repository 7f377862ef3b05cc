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

#[cfg(test)]
mod tests {
    use crate::command::{Command, InitCluster, Operator, Role, SealedSecret};
    use crate::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
    use crate::ids::{OperatorId, TraceId};
    use crate::ledger::Ledger;
    use crate::operate::{
        OPERATOR_PEPPER, Peppered, Repepper, pepper_of_secret, pepper_secret, pepper_version,
        peppered,
    };
    use crate::outcome::{Outcome, RefusalCode};

    /// Applies one command of node 1 in an entry of its own.
    fn apply(ledger: &mut Ledger, index: u64, command: Command) -> Outcome {
        let header = EntryHeader {
            group: 0,
            epoch: u32::from(index > 1),
            incarnation: 0,
            stamp: Stamp { led_ms: 1, civil_ms: 1 },
            origin: 1,
        };
        let envelope = Envelope {
            actor: Actor::Node(1),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        };
        let entry = Entry { header, commands: vec![envelope] };
        ledger.apply_entry(index, &entry).unwrap().remove(0)
    }

    fn operator(token_mac: [u8; 32], id: u64) -> Command {
        Command::AddOperator(Operator {
            operator: OperatorId(id),
            name: "a".into(),
            role: Role::Admin,
            token_mac,
            expires_at_ms: None,
        })
    }

    fn secret(version: u32) -> Command {
        let name = pepper_secret(OPERATOR_PEPPER, version).as_str().into();
        Command::PutSecret(SealedSecret { name, version: 1, nonce: [0; 12], sealed: vec![1; 48] })
    }

    fn refused(outcome: &Outcome) -> Option<RefusalCode> {
        match outcome {
            Outcome::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    #[test]
    fn a_stored_form_names_its_version_and_so_does_a_secret() {
        for version in [1, 2, 255, 256, 65_535] {
            assert_eq!(pepper_version(&peppered(version, [9; 32])), version);
            let name = pepper_secret(OPERATOR_PEPPER, version);
            assert_eq!(pepper_of_secret(&name), Some((OPERATOR_PEPPER, version)));
        }
        for name in ["operator-pepper-1", "operator-pepper-02", "operator-pepper-", "ca-key"] {
            assert_eq!(pepper_of_secret(name), None, "{name}");
        }
    }

    #[test]
    fn a_version_goes_when_nothing_is_stored_under_it_and_nothing_is_after() {
        let mut ledger = Ledger::new();
        let init = Command::InitCluster(InitCluster {
            cluster_id: "lh-1".into(),
            client_id: "c".into(),
            org_domain: "o".into(),
            epoch: 1,
            incarnation: 0,
        });
        let (old, new) = (peppered(1, [7; 32]), peppered(2, [8; 32]));
        let remove = |version| Command::RemoveSecret {
            name: pepper_secret(OPERATOR_PEPPER, version).as_str().into(),
        };
        let row = Peppered::Operator(OperatorId(1));
        let repepper = |before, after| Command::Repepper(Repepper { row, before, after });
        let in_use = Some(RefusalCode::DataKeyInUse);
        let conflict = Some(RefusalCode::VersionConflict);
        let script: [(Command, Option<RefusalCode>, (u64, u64)); 12] = [
            (init, None, (0, 0)),
            (secret(1), None, (0, 0)),
            (operator(old, 1), None, (1, 0)),
            (remove(1), in_use, (1, 0)),
            (secret(2), None, (1, 0)),
            (remove(1), in_use, (1, 0)),
            (remove(2), in_use, (1, 0)),
            (repepper(new, old), conflict, (1, 0)),
            (repepper(old, new), None, (0, 1)),
            (repepper(old, new), None, (0, 1)),
            (remove(1), None, (0, 1)),
            (operator(peppered(1, [6; 32]), 2), conflict, (0, 1)),
        ];
        for (index, (command, code, counts)) in (1..).zip(script) {
            let outcome = apply(&mut ledger, index, command.clone());
            assert_eq!(refused(&outcome), code, "{index}: {command:?}");
            let counted = [1, 2].map(|version| ledger.stored_under(OPERATOR_PEPPER, version));
            assert_eq!((counted[0], counted[1]), counts, "{index}: {command:?}");
        }
        assert!(ledger.operator_by_mac(&old).is_none(), "the former form finds nobody");
        // What is over can be shown no more, and is in nobody's way.
        let passing = Command::AddOperator(Operator {
            operator: OperatorId(3),
            name: "b".into(),
            role: Role::Admin,
            token_mac: peppered(2, [5; 32]),
            expires_at_ms: Some(10),
        });
        assert_eq!(refused(&apply(&mut ledger, 20, passing)), None);
        for (civil_ms, holders) in [(9, 2), (10, 1)] {
            let now = Stamp { led_ms: 1, civil_ms };
            assert_eq!(ledger.holders_under(OPERATOR_PEPPER, 2, now).count(), holders);
        }
        assert_eq!(ledger.operator_by_mac(&new).map(|row| row.operator), Some(OperatorId(1)));
    }
}
