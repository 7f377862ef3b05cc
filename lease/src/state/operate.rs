//! What operators need, in memory: members to come and gone, the grace of an epoch, alarms, pools'
//! rules and use, the audit log's floor, the policy of applications, roots of trust.
//!
//! Small tables without indexes of their own; each change goes through a setter here, which marks
//! the row first.

use std::collections::BTreeMap;

use crate::ids::{AppId, Name, NodeId};
use crate::operate::{
    AlarmKind, AlarmRow, AppPolicy, AuditFloor, FormerEpoch, FormerMember, GraceRow, PoolRule,
    PoolUsage, ReservedRow, RetiredKey, TicketRow, TrustAnchor,
};
use crate::rows::{LoadError, RowKey, encode_value, split_pair, table};

use super::State;
use super::load::RowBytes;

/// Tables 35 to 46.
#[derive(Debug, Default)]
pub(crate) struct Operate {
    tickets: BTreeMap<NodeId, TicketRow>,
    former: BTreeMap<NodeId, FormerMember>,
    retired_keys: BTreeMap<Name, RetiredKey>,
    grace: Option<GraceRow>,
    reserved: BTreeMap<Name, ReservedRow>,
    alarms: BTreeMap<(NodeId, AlarmKind), AlarmRow>,
    pool_rules: BTreeMap<(Name, Name), PoolRule>,
    pool_usage: BTreeMap<(Name, Name), PoolUsage>,
    audit_floor: Option<AuditFloor>,
    app_policies: BTreeMap<AppId, AppPolicy>,
    anchors: BTreeMap<[u8; 32], TrustAnchor>,
    former_epochs: BTreeMap<u32, FormerEpoch>,
}

/// Reading.
impl Operate {
    pub(crate) fn tickets(&self) -> &BTreeMap<NodeId, TicketRow> {
        &self.tickets
    }

    pub(crate) fn former(&self) -> &BTreeMap<NodeId, FormerMember> {
        &self.former
    }

    pub(crate) fn retired_keys(&self) -> &BTreeMap<Name, RetiredKey> {
        &self.retired_keys
    }

    pub(crate) fn grace(&self) -> Option<&GraceRow> {
        self.grace.as_ref()
    }

    pub(crate) fn reserved(&self) -> &BTreeMap<Name, ReservedRow> {
        &self.reserved
    }

    pub(crate) fn alarms(&self) -> &BTreeMap<(NodeId, AlarmKind), AlarmRow> {
        &self.alarms
    }

    pub(crate) fn pool_rules(&self) -> &BTreeMap<(Name, Name), PoolRule> {
        &self.pool_rules
    }

    pub(crate) fn pool_usage(&self) -> &BTreeMap<(Name, Name), PoolUsage> {
        &self.pool_usage
    }

    pub(crate) fn audit_floor(&self) -> AuditFloor {
        self.audit_floor.unwrap_or_default()
    }

    pub(crate) fn app_policies(&self) -> &BTreeMap<AppId, AppPolicy> {
        &self.app_policies
    }

    pub(crate) fn anchors(&self) -> &BTreeMap<[u8; 32], TrustAnchor> {
        &self.anchors
    }

    pub(crate) fn former_epochs(&self) -> &BTreeMap<u32, FormerEpoch> {
        &self.former_epochs
    }

    /// Present value of a row.
    pub(super) fn row_value(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::Ticket(node) => self.tickets.get(node).map(encode_value),
            RowKey::FormerMember(node) => self.former.get(node).map(encode_value),
            RowKey::RetiredKey(kid) => self.retired_keys.get(kid).map(encode_value),
            RowKey::Grace => self.grace.as_ref().map(encode_value),
            RowKey::Reserved(package) => self.reserved.get(package).map(encode_value),
            RowKey::Alarm(node, kind) => self.alarms.get(&(*node, *kind)).map(encode_value),
            RowKey::PoolRule(package, pool) => {
                self.pool_rules.get(&(package.clone(), pool.clone())).map(encode_value)
            }
            RowKey::PoolUsage(package, pool) => {
                self.pool_usage.get(&(package.clone(), pool.clone())).map(encode_value)
            }
            RowKey::AuditFloor => self.audit_floor.as_ref().map(encode_value),
            RowKey::AppPolicy(app) => self.app_policies.get(app).map(encode_value),
            RowKey::TrustAnchor(fingerprint) => self.anchors.get(fingerprint).map(encode_value),
            RowKey::FormerEpoch(epoch) => self.former_epochs.get(epoch).map(encode_value),
            _ => None,
        }
    }

    /// Takes a stored row in.
    pub(super) fn load(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        let text = |bytes| std::str::from_utf8(bytes).map(Name::from).map_err(|_| row.wrong_key());
        let pair = || {
            let (package, pool) = split_pair(row.key).ok_or(row.wrong_key())?;
            Ok::<_, LoadError>((Name::from(package), text(pool)?))
        };
        match row.table {
            table::TICKET => {
                let ticket: TicketRow = row.read()?;
                row.check(&RowKey::Ticket(ticket.node))?;
                row.hold(self.tickets.insert(ticket.node, ticket).is_none())
            }
            table::FORMER_MEMBER => {
                let former: FormerMember = row.read()?;
                row.check(&RowKey::FormerMember(former.node))?;
                row.hold(self.former.insert(former.node, former).is_none())
            }
            table::RETIRED_KEY => {
                row.hold(self.retired_keys.insert(text(row.key)?, row.read()?).is_none())
            }
            table::GRACE => {
                row.check(&RowKey::Grace)?;
                row.hold(self.grace.replace(row.read()?).is_none())
            }
            table::RESERVED => {
                row.hold(self.reserved.insert(text(row.key)?, row.read()?).is_none())
            }
            table::ALARM => {
                let alarm: AlarmRow = row.read()?;
                row.check(&RowKey::Alarm(alarm.node, alarm.kind))?;
                row.hold(self.alarms.insert((alarm.node, alarm.kind), alarm).is_none())
            }
            table::POOL_RULE => row.hold(self.pool_rules.insert(pair()?, row.read()?).is_none()),
            table::POOL_USAGE => row.hold(self.pool_usage.insert(pair()?, row.read()?).is_none()),
            table::AUDIT_FLOOR => {
                row.check(&RowKey::AuditFloor)?;
                row.hold(self.audit_floor.replace(row.read()?).is_none())
            }
            table::APP_POLICY => {
                let policy: AppPolicy = row.read()?;
                row.check(&RowKey::AppPolicy(policy.app))?;
                row.hold(self.app_policies.insert(policy.app, policy).is_none())
            }
            table::TRUST_ANCHOR => {
                let anchor: TrustAnchor = row.read()?;
                row.check(&RowKey::TrustAnchor(anchor.fingerprint))?;
                row.hold(self.anchors.insert(anchor.fingerprint, anchor).is_none())
            }
            table::FORMER_EPOCH => {
                let former: FormerEpoch = row.read()?;
                row.check(&RowKey::FormerEpoch(former.epoch))?;
                row.hold(self.former_epochs.insert(former.epoch, former).is_none())
            }
            unknown => Err(LoadError::UnknownTable(unknown)),
        }
    }
}

/// Changing. `None` removes a row.
impl State {
    pub(crate) fn operate(&self) -> &Operate {
        &self.operate
    }

    pub(crate) fn set_ticket(&mut self, node: NodeId, row: Option<TicketRow>) {
        self.touch(RowKey::Ticket(node));
        set(&mut self.operate.tickets, node, row);
    }

    pub(crate) fn put_former_member(&mut self, row: FormerMember) {
        self.touch(RowKey::FormerMember(row.node));
        self.operate.former.insert(row.node, row);
    }

    pub(crate) fn drop_former_member(&mut self, node: NodeId) {
        self.touch(RowKey::FormerMember(node));
        self.operate.former.remove(&node);
    }

    pub(crate) fn set_retired_key(&mut self, kid: &Name, row: Option<RetiredKey>) {
        self.touch(RowKey::RetiredKey(kid.clone()));
        set(&mut self.operate.retired_keys, kid.clone(), row);
    }

    pub(crate) fn set_grace(&mut self, row: Option<GraceRow>) {
        self.touch(RowKey::Grace);
        self.operate.grace = row;
    }

    pub(crate) fn set_reserved(&mut self, package: &Name, row: Option<ReservedRow>) {
        self.touch(RowKey::Reserved(package.clone()));
        set(&mut self.operate.reserved, package.clone(), row);
        if let Some(slot) = self.slot(package) {
            self.packages[slot as usize].reserved = row;
        }
    }

    /// Tells packages of the seats kept of them; whether each row has its package.
    pub(super) fn index_loaded_reserved(&mut self) -> bool {
        let rows: Vec<(Name, ReservedRow)> =
            self.operate.reserved.iter().map(|(name, row)| (name.clone(), *row)).collect();
        rows.into_iter().all(|(name, row)| {
            let slot = self.slot(&name);
            if let Some(slot) = slot {
                self.packages[slot as usize].reserved = Some(row);
            }
            slot.is_some()
        })
    }

    /// Whether packages know exactly the seats that are kept of them.
    pub(crate) fn reserved_is_indexed(&self) -> bool {
        let rows = &self.operate.reserved;
        self.packages
            .iter()
            .all(|package| rows.get(&package.terms.package) == package.reserved.as_ref())
            && rows.keys().all(|package| self.slot(package).is_some())
    }

    pub(crate) fn set_alarm(&mut self, node: NodeId, kind: AlarmKind, row: Option<AlarmRow>) {
        self.touch(RowKey::Alarm(node, kind));
        set(&mut self.operate.alarms, (node, kind), row);
    }

    pub(crate) fn set_pool_rule(&mut self, package: &Name, pool: &Name, row: Option<PoolRule>) {
        self.touch(RowKey::PoolRule(package.clone(), pool.clone()));
        set(&mut self.operate.pool_rules, (package.clone(), pool.clone()), row);
    }

    /// `pool`: empty for the unassigned seats.
    pub(crate) fn set_pool_usage(&mut self, package: &Name, pool: &Name, row: Option<PoolUsage>) {
        self.touch(RowKey::PoolUsage(package.clone(), pool.clone()));
        set(&mut self.operate.pool_usage, (package.clone(), pool.clone()), row);
    }

    pub(crate) fn set_audit_floor(&mut self, row: AuditFloor) {
        self.touch(RowKey::AuditFloor);
        self.operate.audit_floor = Some(row);
    }

    pub(crate) fn set_app_policy(&mut self, app: AppId, row: Option<AppPolicy>) {
        self.touch(RowKey::AppPolicy(app));
        set(&mut self.operate.app_policies, app, row);
    }

    pub(crate) fn put_former_epoch(&mut self, row: FormerEpoch) {
        self.touch(RowKey::FormerEpoch(row.epoch));
        self.operate.former_epochs.insert(row.epoch, row);
    }

    pub(crate) fn set_anchor(&mut self, fingerprint: [u8; 32], row: Option<TrustAnchor>) {
        self.touch(RowKey::TrustAnchor(fingerprint));
        set(&mut self.operate.anchors, fingerprint, row);
    }

    pub(crate) fn remove_member(&mut self, node: NodeId) -> Option<crate::command::Member> {
        self.touch(RowKey::Member(node));
        self.members.remove(&node)
    }

    pub(crate) fn remove_signing_key(&mut self, kid: &Name) {
        self.touch(RowKey::SigningKey(kid.clone()));
        self.signing_keys.remove(kid);
    }

    pub(crate) fn remove_wrapped_key(&mut self, node: NodeId, version: u32) {
        self.touch(RowKey::WrappedKey(node, version));
        self.wrapped_keys.remove(&(node, version));
    }

    pub(crate) fn remove_secret(&mut self, name: &Name) {
        self.touch(RowKey::Secret(name.clone()));
        self.secrets.remove(name);
    }

    pub(crate) fn remove_operator(&mut self, operator: crate::ids::OperatorId) {
        self.touch(RowKey::Operator(operator));
        if let Some(row) = self.operators.remove(&operator) {
            self.operator_by_mac.remove(&row.token_mac);
        }
    }

    pub(crate) fn remove_subject(&mut self, subject: crate::ids::SubjectRef) {
        self.touch(RowKey::Subject(subject));
        if let Some(row) = self.subjects.remove(&subject) {
            self.subject_by_name.remove(&(row.kind, row.name));
        }
    }
}

fn set<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, row: Option<V>) {
    match row {
        Some(row) => table.insert(key, row),
        None => table.remove(&key),
    };
}
