//! What operators read: members to come and gone, alarms, pools, roots of trust.

use std::collections::BTreeSet;

use crate::entry::Stamp;
use crate::ids::{AppId, Name, NodeId, OperatorId};
use crate::ledger::Ledger;
use crate::operate::{
    AlarmRow, AnchorState, AppPolicy, AuditFloor, CLIENT_SECRET_PEPPER, FormerEpoch, FormerMember,
    GraceRow, OPERATOR_PEPPER, PoolRule, PoolUsage, ReservedRow, RetiredKey, TicketRow,
    TrustAnchor, pepper_of_secret, pepper_version,
};

/// Whose credential is stored under a pepper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PepperHolder {
    /// An application's client secret.
    App(AppId),
    /// An operator's token, or an API key.
    Operator(OperatorId),
    /// The join token of a node that is invited.
    Ticket(NodeId),
}

impl Ledger {
    /// Nodes that are to join, or have joined and are not done, in order of id.
    pub fn tickets(&self) -> impl Iterator<Item = &TicketRow> {
        self.state.operate().tickets().values()
    }

    /// The ticket of a node.
    pub fn ticket(&self, node: NodeId) -> Option<&TicketRow> {
        self.state.operate().tickets().get(&node)
    }

    /// Nodes that were removed, in order of id.
    pub fn former_members(&self) -> impl Iterator<Item = &FormerMember> {
        self.state.operate().former().values()
    }

    /// One above every id that was ever given out: that of the next node.
    pub fn next_node_id(&self) -> Option<NodeId> {
        let operate = self.state.operate();
        let last = [
            self.state.members().keys().next_back(),
            operate.tickets().keys().next_back(),
            operate.former().keys().next_back(),
        ];
        last.into_iter().flatten().max().copied().unwrap_or(0).checked_add(1)
    }

    /// Until when a signing key that signs no more is believed; `None`: it signs.
    pub fn retired_key(&self, kid: &str) -> Option<&RetiredKey> {
        self.state.operate().retired_keys().get(kid)
    }

    /// Epochs before the present one, in order of number.
    pub fn former_epochs(&self) -> impl Iterator<Item = &FormerEpoch> {
        self.state.operate().former_epochs().values()
    }

    /// The time after the present epoch was opened, while it lasts.
    pub fn grace(&self) -> Option<&GraceRow> {
        let led_ms = self.clock().led_ms;
        self.state.operate().grace().filter(|grace| led_ms < grace.until_led_ms)
    }

    /// Seats kept for borrows that a restored state does not know, while they are kept.
    pub fn reserved(&self, package: &str) -> Option<&ReservedRow> {
        let civil_ms = self.clock().civil_ms;
        self.state.operate().reserved().get(package).filter(|row| civil_ms <= row.until_ms)
    }

    /// Alarms that stand, in order of node and kind.
    pub fn alarms(&self) -> impl Iterator<Item = &AlarmRow> {
        self.state.operate().alarms().values()
    }

    /// For whom a pool is kept; `None`: for whoever names it.
    pub fn pool_rule(&self, package: &Name, pool: &Name) -> Option<&PoolRule> {
        self.state.operate().pool_rules().get(&(package.clone(), pool.clone()))
    }

    /// Whether some pool of a package is kept for somebody.
    pub fn keeps_pools(&self, package: &Name) -> bool {
        let from = (package.clone(), Name::from(""));
        let rules = self.state.operate().pool_rules().range(from..);
        let mut of_package = rules.take_while(|((of, _), _)| of == package);
        of_package.any(|(_, rule)| !rule.reserved_for.is_empty())
    }

    /// Use of a pool; `None` names the unassigned seats.
    pub fn pool_usage(&self, package: &Name, pool: Option<&Name>) -> PoolUsage {
        let pool = pool.cloned().unwrap_or_else(|| Name::from(""));
        let found = self.state.operate().pool_usage().get(&(package.clone(), pool));
        found.copied().unwrap_or_default()
    }

    /// Audit events from a sequence number on that [`Ledger::begin_changes`] has not taken yet, as
    /// the bytes that were hashed, oldest first, each with its number.
    pub fn audit_recent_from(&self, seq: u64) -> impl Iterator<Item = (u64, &[u8])> {
        self.recent.encoded_from(seq)
    }

    /// How far the audit log was pruned.
    pub fn audit_floor(&self) -> AuditFloor {
        self.state.operate().audit_floor()
    }

    /// How an application is let in; `None`: by its secret alone.
    pub fn app_policy(&self, app: AppId) -> Option<&AppPolicy> {
        self.state.operate().app_policies().get(&app)
    }

    /// The cluster's certificate authorities, in order of fingerprint; none before the first was
    /// stored.
    pub fn trust_anchors(&self) -> impl Iterator<Item = &TrustAnchor> {
        self.state.operate().anchors().values()
    }

    /// The authority that certificates come from.
    pub fn issuing_anchor(&self) -> Option<&TrustAnchor> {
        self.trust_anchors().find(|anchor| anchor.state == AnchorState::Issuing)
    }

    /// Versions of a pepper that are stored, oldest first.
    pub fn pepper_versions(&self, pepper: &str) -> impl Iterator<Item = u32> {
        let mut versions: Vec<u32> = self
            .secrets()
            .filter_map(|secret| pepper_of_secret(&secret.name))
            .filter(|(of, _)| *of == pepper)
            .map(|(_, version)| version)
            .collect();
        versions.sort_unstable();
        versions.into_iter()
    }

    /// Whose stored form is under a version of a pepper and may still be shown: not that of an
    /// operator token or an invitation that is over at `now`.
    pub fn holders_under(
        &self,
        pepper: &str,
        version: u32,
        now: Stamp,
    ) -> impl Iterator<Item = PepperHolder> {
        let under = move |mac: &[u8; 32]| pepper_version(mac) == version;
        let is_secret = pepper == CLIENT_SECRET_PEPPER;
        let is_token = pepper == OPERATOR_PEPPER;
        let apps = self.apps().filter(move |app| is_secret && under(&app.secret_mac));
        let operators = self.operators().filter(move |operator| {
            let lives = operator.expires_at_ms.is_none_or(|end| now.civil_ms < end);
            is_token && lives && under(&operator.token_mac)
        });
        let tickets = self.tickets().filter(move |ticket| {
            let is_open = !ticket.joined && now.led_ms < ticket.expires_led_ms;
            is_token && is_open && under(&ticket.token_mac)
        });
        apps.map(|app| PepperHolder::App(app.app))
            .chain(operators.map(|operator| PepperHolder::Operator(operator.operator)))
            .chain(tickets.map(|ticket| PepperHolder::Ticket(ticket.node)))
    }

    /// How many they are by the ledger's clock.
    pub fn stored_under(&self, pepper: &str, version: u32) -> u64 {
        self.holders_under(pepper, version, self.clock()).count() as u64
    }

    /// Versions of the data key that are wrapped to any node; the last is the newest. A node that
    /// joins needs them all.
    pub fn data_key_versions_in_use(&self) -> BTreeSet<u32> {
        self.wrapped_data_keys().map(|wrap| wrap.version).collect()
    }

    /// Versions of the data key that are wrapped to a node, newest first.
    pub fn data_key_versions(&self, node: NodeId) -> Vec<u32> {
        let mut versions: Vec<u32> = self
            .wrapped_data_keys()
            .filter(|wrap| wrap.node == node)
            .map(|wrap| wrap.version)
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        versions
    }
}
