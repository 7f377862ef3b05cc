//! People and hosts who are to be forgotten.
//!
//! A name stands in one erasable row, and whatever refers to it holds a random reference. Erasing
//! takes that row away, so references name nobody from then on: in leases, in clients, in the audit
//! chain, which is never changed. A few rows hold names as such, because they are compared with
//! what callers say; there a name that nobody has takes its place, `erased-` and the reference:
//!
//! | where | what becomes of it |
//! |---|---|
//! | delegates of licenses | their rows go: nobody is a delegate under a name that is not kept |
//! | borrow rules, pool rules | the placeholder, so that no list gets wider by becoming empty |
//! | users, keys of the classic face, tokens that are over | the placeholder |
//! | organisations, projects | the placeholder |
//! | what a cluster said of itself, if it names them | it goes |
//!
//! What works only because of the name is refused first (`bonds_of`). A live lease does not: it
//! goes on and shows nobody. Reasons and descriptions that operators wrote are not searched.
//!
//! Walks the activations and licenses, so it costs some hundred milliseconds where there are
//! millions of them; it is an operator's rare command.

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::ids::Name;
use crate::ledger::Ledger;
use crate::license::{ActivationRow, LicenseRow};
use crate::offline::{ApiKeyRow, BorrowParty, BorrowRules};
use crate::operate::{EraseSubject, PoolParty};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;
use crate::rows::SubjectKind;

/// Whom to forget, and what stands in place of the name.
struct Forgotten {
    kind: SubjectKind,
    name: Name,
    placeholder: Name,
    /// The name as it stands in JSON, in lower case.
    in_json: String,
}

impl Ledger {
    pub(super) fn erase_subject(&mut self, context: &Context, erase: &EraseSubject) -> Decision {
        let Some((kind, name)) = self.subject(erase.subject) else {
            return refuse(RefusalCode::UnknownSubject);
        };
        let forgotten = Forgotten {
            kind,
            name: name.into(),
            placeholder: format!("erased-{:016x}", erase.subject.0).into(),
            in_json: in_json(name),
        };
        // The reason stays in the audit chain for ever.
        within(is_text(&erase.reason) && !names(&erase.reason, &forgotten.name))?;
        if self.bonds_of(erase.subject).next().is_some() {
            return refuse(RefusalCode::SubjectInUse);
        }
        let identities = self.state.licensing().identities().keys();
        let delegates = identities.filter(|(_, contact)| *contact == erase.subject);
        for (license, contact) in delegates.copied().collect::<Vec<_>>() {
            self.state.remove_identity(license, contact);
        }
        self.forget_in_licenses(&forgotten);
        self.forget_in_rules(&forgotten);
        self.forget_in_credentials(&forgotten);
        self.state.remove_subject(erase.subject);
        let detail = AuditDetail::Erasure { subject: erase.subject, reason: erase.reason.clone() };
        self.record(&context.origin, Event::new(AuditKind::SubjectErased, detail));
        Ok(Outcome::Done)
    }

    fn forget_in_licenses(&mut self, forgotten: &Forgotten) {
        let licensing = self.state.licensing();
        let named = |row: &&LicenseRow| forgotten.is(&row.terms.organisation);
        let licenses: Vec<LicenseRow> =
            licensing.licenses().values().filter(named).cloned().collect();
        let named = |row: &&ActivationRow| {
            forgotten.is(&row.org)
                || forgotten.is(&row.project)
                || forgotten.is_said_by(&row.metadata)
        };
        let activations: Vec<ActivationRow> =
            licensing.activations().values().filter(named).cloned().collect();
        for mut row in licenses {
            forgotten.forget(&mut row.terms.organisation);
            self.state.put_license(row);
        }
        for mut row in activations {
            forgotten.forget(&mut row.org);
            forgotten.forget(&mut row.project);
            if forgotten.is_said_by(&row.metadata) {
                row.metadata = "".into();
            }
            self.state.put_activation(row);
        }
    }

    fn forget_in_rules(&mut self, forgotten: &Forgotten) {
        let named = |party: &BorrowParty| forgotten.is_party(party);
        let offline = self.state.offline();
        let borrow: Vec<(Name, BorrowRules)> = offline
            .all_rules()
            .iter()
            .filter(|(_, rules)| rules.include.iter().chain(&rules.exclude).any(named))
            .map(|(package, rules)| (package.clone(), rules.clone()))
            .collect();
        for (package, mut rules) in borrow {
            for party in rules.include.iter_mut().chain(&mut rules.exclude) {
                forgotten.forget_party(party);
            }
            self.state.put_borrow_rules(&package, Some(rules));
        }
        let in_pool = |party: &PoolParty| matches!(party, PoolParty::Party(it) if named(it));
        let pools: Vec<_> = self
            .state
            .operate()
            .pool_rules()
            .iter()
            .filter(|(_, rule)| rule.reserved_for.iter().any(in_pool))
            .map(|(at, rule)| (at.clone(), rule.clone()))
            .collect();
        for ((package, pool), mut rule) in pools {
            for party in &mut rule.reserved_for {
                if let PoolParty::Party(party) = party {
                    forgotten.forget_party(party);
                }
            }
            self.state.set_pool_rule(&package, &pool, Some(rule));
        }
    }

    /// A user of the admin API of `device` keeps no way in by this: their keys were bonds.
    fn forget_in_credentials(&mut self, forgotten: &Forgotten) {
        if forgotten.kind != SubjectKind::User {
            return;
        }
        let users: Vec<_> = self.state.licensing().users().values().cloned().collect();
        for mut user in users.into_iter().filter(|user| forgotten.is(&user.username)) {
            user.username = forgotten.placeholder.clone();
            self.state.put_user(user);
        }
        let operators: Vec<_> = self.state.operators().values().cloned().collect();
        for mut operator in operators {
            if operator.is_named(&forgotten.name) {
                operator.name = (&*forgotten.placeholder).into();
                self.state.put_operator(operator);
            }
        }
        let named = |key: &&ApiKeyRow| forgotten.is(&key.name) || forgotten.is(&key.tenant);
        let keys: Vec<ApiKeyRow> =
            self.state.offline().api_keys().values().filter(named).cloned().collect();
        for mut key in keys {
            forgotten.forget(&mut key.name);
            forgotten.forget(&mut key.tenant);
            self.state.put_api_key(key);
        }
    }
}

impl Forgotten {
    fn is(&self, text: &str) -> bool {
        self.name.eq_ignore_ascii_case(text)
    }

    fn is_said_by(&self, json: &str) -> bool {
        json.to_ascii_lowercase().contains(&self.in_json)
    }

    fn is_party(&self, party: &BorrowParty) -> bool {
        match (party, self.kind) {
            (BorrowParty::User(name), SubjectKind::User)
            | (BorrowParty::Host(name), SubjectKind::Host) => self.is(name),
            _ => false,
        }
    }

    fn forget(&self, text: &mut Box<str>) {
        if self.is(text) {
            *text = (&*self.placeholder).into();
        }
    }

    fn forget_party(&self, party: &mut BorrowParty) {
        if self.is_party(party) {
            let (BorrowParty::User(name) | BorrowParty::Host(name)) = party;
            *name = (&*self.placeholder).into();
        }
    }
}

/// Whether a text holds a name anywhere.
fn names(text: &str, name: &str) -> bool {
    text.to_ascii_lowercase().contains(&name.to_ascii_lowercase())
}

/// A text as JSON writes it, for a search: in quotes, in lower case.
fn in_json(text: &str) -> String {
    let escaped = text.to_ascii_lowercase().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}
