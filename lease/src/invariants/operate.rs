//! The rules of members, epochs and roots of trust as checks.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::NodeId;
use crate::invariants::{Before, Violation, ensure};
use crate::ledger::Ledger;
use crate::operate::AnchorState;

/// What must be remembered of the nodes to see that no id is given twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodesBefore {
    next: Option<NodeId>,
    /// Members and the incarnations of their directories.
    members: BTreeMap<NodeId, u64>,
    former: BTreeSet<NodeId>,
}

impl NodesBefore {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let members = ledger.members().map(|member| (member.node, member.directory_incarnation));
        Self {
            next: ledger.next_node_id(),
            members: members.collect(),
            former: ledger.former_members().map(|former| former.node).collect(),
        }
    }
}

/// An id belongs to one directory for ever: who left does not come back, who is there was not
/// exchanged, and what is given next was never given.
pub fn no_node_id_is_given_twice(before: &Before, ledger: &Ledger) -> Result<(), Violation> {
    let rule = "no_node_id_is_given_twice";
    let (then, now) = (&before.nodes, NodesBefore::of(ledger));
    ensure(rule, now.next >= then.next, || format!("{:?} after {:?}", now.next, then.next))?;
    ensure(rule, then.former.is_subset(&now.former), || "a former member is forgotten".into())?;
    for node in &now.former {
        let back = now.members.contains_key(node) || ledger.ticket(*node).is_some();
        ensure(rule, !back, || format!("node {node} left and is there"))?;
    }
    for (node, incarnation) in &then.members {
        let known = now.members.get(node);
        ensure(rule, known.is_none_or(|known| known == incarnation), || {
            format!("node {node} is another directory's")
        })?;
        ensure(rule, known.is_some() || now.former.contains(node), || {
            format!("node {node} left no trace")
        })?;
    }
    for ticket in ledger.tickets() {
        ensure(rule, ticket.joined == now.members.contains_key(&ticket.node), || {
            format!("node {} and its ticket disagree", ticket.node)
        })?;
    }
    Ok(())
}

/// What is said of nodes is said of those there are: alarms, data keys, and signing keys that sign.
pub fn what_is_said_of_nodes_is_of_members(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "what_is_said_of_nodes_is_of_members";
    let is_member = |node: NodeId| ledger.member(node).is_some();
    for alarm in ledger.alarms() {
        ensure(rule, is_member(alarm.node), || format!("an alarm of node {}", alarm.node))?;
    }
    for wrap in ledger.wrapped_data_keys() {
        ensure(rule, is_member(wrap.node), || format!("a data key of node {}", wrap.node))?;
    }
    for key in ledger.signing_keys() {
        let signs = ledger.retired_key(&key.kid).is_none();
        ensure(rule, is_member(key.node) || !signs, || format!("a signing key of {}", key.node))?;
    }
    let retired = ledger.state.operate().retired_keys().keys();
    for kid in retired {
        ensure(rule, ledger.signing_key(kid).is_some(), || format!("{kid} is retired and gone"))?;
    }
    Ok(())
}

/// At most one certificate authority makes certificates.
pub fn at_most_one_authority_issues(ledger: &Ledger) -> Result<(), Violation> {
    let issuing = ledger.trust_anchors().filter(|it| it.state == AnchorState::Issuing).count();
    ensure("at_most_one_authority_issues", issuing <= 1, || format!("{issuing} do"))
}

/// Policies are of applications that there are.
pub fn policies_are_of_applications(ledger: &Ledger) -> Result<(), Violation> {
    let mut policies = ledger.state.operate().app_policies().keys();
    ensure("policies_are_of_applications", policies.all(|app| ledger.app(*app).is_some()), || {
        "a policy is of none".into()
    })
}

/// The grace is of the present epoch.
pub fn the_grace_is_of_this_epoch(ledger: &Ledger) -> Result<(), Violation> {
    let epoch = ledger.cluster().map(|cluster| cluster.epoch);
    let grace = ledger.state.operate().grace();
    let follows = |former: u32| epoch.is_some_and(|epoch| former < epoch);
    ensure("the_grace_is_of_this_epoch", grace.is_none_or(|it| follows(it.former_epoch)), || {
        format!("{grace:?} in epoch {epoch:?}")
    })
}

/// Seats out of a package and seats kept of it for borrows that are not known are together no more
/// than it has, but for leases that were out already when the epoch was opened: while any seat was
/// given in this epoch, both fit.
pub fn only_what_was_out_at_the_opening_exceeds_the_seats_kept(
    ledger: &Ledger,
) -> Result<(), Violation> {
    let rule = "only_what_was_out_at_the_opening_exceeds_the_seats_kept";
    ensure(rule, ledger.state.reserved_is_indexed(), || "a package knows another number".into())?;
    let Some(cluster) = ledger.cluster() else { return Ok(()) };
    let civil_ms = ledger.clock().civil_ms;
    for package in ledger.state.packages() {
        let kept = package.reserved(civil_ms);
        if kept == 0 {
            continue;
        }
        let leases = package.leases().filter_map(|id| ledger.state.lease(id));
        let given_since = leases.filter(|lease| lease.fence().epoch == cluster.epoch).count();
        let (out, total) = (package.total_in_use(), package.terms().total);
        ensure(rule, given_since == 0 || out.saturating_add(kept) <= total, || {
            let name = &package.terms().package;
            format!("{name}: {out} out and {kept} kept of {total}, {given_since} given since")
        })?;
    }
    Ok(())
}
