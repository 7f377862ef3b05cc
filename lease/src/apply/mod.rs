//! One command at a time: who may, whether it was asked before, and which verb decides.
//!
//! The order is the same for all: the cluster must be founded, the actor allowed, the request id
//! unused (or the earlier answer is given again); then the verb. A refusal changes nothing but the
//! counters of refusals and of wrong keys, and takes no row in the request table.

mod cluster;
mod give_back;
mod growth;
mod identity;
mod licensing;
mod offline;
mod operate;
mod package;
mod renew;
mod seat;
mod take;

use crate::command::{Command, Role};
use crate::entry::{Actor, EntryHeader, Envelope};
use crate::ids::{AppId, Face, Fence, KeyOrigin, LeaseId, Name, RequestId};
use crate::ledger::Ledger;
use crate::limits::{MAX_NAME_BYTES, MAX_TEXT_CHARS};
use crate::offline::{Borrow, ReturnBorrow, WriteOff};
use crate::outcome::{AppOutcome, Outcome, Refusal, RefusalCode};
use crate::planted::{self, Bug};
use crate::record::Origin;
use crate::requests::{Remembered, RememberedOutcome, RequestRecord};
use crate::rows::App;

use growth::{Adds, adds};

pub(crate) use licensing::guesses::is_total;
pub(crate) use offline::BorrowCaps;

/// What a verb decides: an answer, or why not.
pub(crate) type Decision = Result<Outcome, Refusal>;

/// A command's surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    pub(crate) origin: Origin,
    /// On whose behalf leases end that were due: of the node that stamped the entry.
    pub(crate) time: Origin,
    pub(crate) request: Option<RequestId>,
    /// Place in the log.
    pub(crate) index: u64,
    pub(crate) position: u16,
    /// What the command takes that was not there before.
    adds: Adds,
}

/// Who may do a command.
struct Permit {
    /// A node, for itself or in founding the cluster.
    node: bool,
    /// An application; its credentials are checked by the verb.
    app: bool,
    /// An operator of at least this role.
    operator: Option<Role>,
    /// A face.
    face: Option<fn(Face) -> bool>,
}

/// Nobody.
const NOBODY: Permit = Permit { node: false, app: false, operator: None, face: None };
/// A node, for itself.
const NODE: Permit = Permit { node: true, ..NOBODY };
/// An application.
const APP: Permit = Permit { app: true, ..NOBODY };

const fn operator(role: Role) -> Permit {
    Permit { operator: Some(role), ..NOBODY }
}

const fn face(may: fn(Face) -> bool) -> Permit {
    Permit { face: Some(may), ..NOBODY }
}

/// The one table of who may do what.
fn permit(command: &Command) -> Permit {
    match command {
        Command::Tick
        | Command::InitCluster(_)
        | Command::PublishSigningKey(_)
        | Command::AgreeStateSum { .. }
        | Command::JoinMember(_)
        | Command::CompleteJoin { .. }
        | Command::OpenEpoch(_)
        | Command::RaiseAlarm(_)
        | Command::ResealActivation(_)
        | Command::Repepper(_)
        | Command::RetireSigningKey { .. }
        | Command::ForgetSigningKey { .. } => NODE,
        Command::PutMember(_)
        | Command::PutSecret(_)
        | Command::WrapDataKey(_)
        | Command::AddOperator(_)
        | Command::RemoveMember(_)
        | Command::PutTrustAnchor(_)
        | Command::RemoveTrustAnchor { .. }
        | Command::RetireDataKey { .. }
        | Command::RemoveSecret { .. } => Permit { node: true, ..operator(Role::Admin) },
        Command::ClearAlarm { .. } => Permit { node: true, ..operator(Role::Operator) },
        Command::PinVendor(_)
        | Command::ImportPackage(_)
        | Command::ImportEntitlement(_)
        | Command::RevokePackage(_)
        | Command::RegisterApp(_)
        | Command::RotateAppSecret(_)
        | Command::RemoveApp { .. }
        | Command::AddUser(_)
        | Command::SetKeyWindow(_)
        | Command::AddApiKey(_)
        | Command::RemoveApiKey { .. }
        | Command::AddTicket(_)
        | Command::RemoveOperator(_)
        | Command::EraseSubject(_)
        | Command::PruneAudit { .. }
        | Command::SetAppPolicy(_)
        | Command::ReplaceDataKey(_)
        | Command::ReleaseReserved { .. } => operator(Role::Admin),
        Command::SuspendPackage(_)
        | Command::ResumePackage(_)
        | Command::Release { .. }
        | Command::TransferSeats(_)
        | Command::IssueLicense(_)
        | Command::ChangeLicense(_)
        | Command::ChangeActivation(_)
        | Command::AddClient(_)
        | Command::ChangeClient(_)
        | Command::PutProduct(_)
        | Command::RemoveProduct { .. }
        | Command::WriteOff(_)
        | Command::SetBorrowRules(_)
        | Command::SetBudget(_)
        | Command::SetPool(_)
        | Command::RemovePool { .. } => operator(Role::Operator),
        Command::Checkout(_)
        | Command::Heartbeat { .. }
        | Command::Return(_)
        | Command::Borrow(_)
        | Command::ReturnBorrow(_)
        | Command::Reclaim(_) => APP,
        Command::Activate(_) | Command::Verify(_) => face(|face| face != Face::Classic),
        Command::Deactivate(_) | Command::ReportUsage(_) => face(|face| face == Face::Deployment),
        Command::StartTrial(_) => face(|face| face == Face::Device),
        Command::ClassicCheckout(_) | Command::ClassicReturn { .. } => {
            face(|face| face == Face::Classic)
        }
    }
}

impl Ledger {
    /// Applies one command of an entry.
    pub(crate) fn apply_command(
        &mut self,
        index: u64,
        position: u16,
        header: &EntryHeader,
        envelope: &Envelope,
    ) -> Outcome {
        let Envelope { actor, request, trace, cause, command } = envelope;
        // What time does is done by the node that stamped it, whoever the envelope names.
        let actor = match command {
            Command::Tick => Actor::Node(header.origin),
            _ => *actor,
        };
        let origin = Origin { actor, trace: *trace, cause: *cause };
        let time = Origin::time(header.origin);
        let adds = adds(command);
        let context = Context { origin, time, request: *request, index, position, adds };
        match self.decide(&context, command) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                let (package, lease) = self.concerns(actor, command);
                self.record_refusal(&origin, package.as_deref(), lease, refusal.code);
                Outcome::Refused(refusal)
            }
        }
    }

    fn decide(&mut self, context: &Context, command: &Command) -> Decision {
        if self.cluster().is_none() && !matches!(command, Command::Tick | Command::InitCluster(_)) {
            return refuse(RefusalCode::ClusterNotInitialised);
        }
        self.may(context.origin.actor, command)?;
        match command {
            // These have their own way with request ids.
            Command::Checkout(checkout) => return self.check_out(context, checkout),
            Command::Heartbeat { leases } => return self.heartbeat(context, leases),
            Command::Return(give_back) => return self.give_back(context, give_back),
            Command::Reclaim(reclaim) => return self.reclaim(context, reclaim),
            // These are repeatable by themselves, once per holder.
            Command::Activate(_) | Command::Verify(_) | Command::Deactivate(_) => {
                return self.perform_licensing(context, command);
            }
            Command::Borrow(borrow) => return self.borrow(context, borrow),
            Command::ReturnBorrow(give_back) => return self.return_borrow(context, give_back),
            Command::ClassicCheckout(checkout) => return self.classic_checkout(context, checkout),
            Command::ClassicReturn { lease } => return self.classic_return(context, *lease),
            _ => {}
        }
        if let Some(request) = context.request {
            if let Some(answer) = self.answered_before(&request, command)? {
                return Ok(answer);
            }
            self.admit(&request)?;
        }
        self.may_add(context, command)?;
        let outcome = self.perform(context, command)?;
        if let Some(request) = context.request {
            self.remember(request, &outcome);
        }
        Ok(outcome)
    }

    fn perform(&mut self, context: &Context, command: &Command) -> Decision {
        match command {
            Command::Tick => Ok(Outcome::Done),
            Command::InitCluster(founding) => self.found_cluster(context, founding),
            Command::PutMember(member) => self.put_member(context, member),
            Command::PublishSigningKey(key) => self.publish_signing_key(context, key),
            Command::PutSecret(secret) => self.put_secret(context, secret),
            Command::WrapDataKey(key) => self.wrap_data_key(context, key),
            Command::AddOperator(operator) => self.add_operator(context, operator),
            Command::PinVendor(vendor) => self.pin_vendor(context, vendor),
            Command::ImportPackage(import) => self.import_package(context, import),
            Command::SuspendPackage(change) => self.suspend_package(context, change),
            Command::ResumePackage(change) => self.resume_package(context, change),
            Command::RevokePackage(change) => self.revoke_package(context, change),
            Command::RegisterApp(registration) => self.register_app(context, registration),
            Command::RotateAppSecret(rotation) => self.rotate_app_secret(context, rotation),
            Command::RemoveApp { app } => self.remove_app(context, *app),
            Command::Release { lease, reason } => self.release(context, *lease, reason),
            Command::TransferSeats(transfer) => self.transfer_seats(context, transfer),
            Command::AgreeStateSum { index, sum } => self.agree_state_sum(*index, *sum),
            Command::SetKeyWindow(window) => self.set_key_window(context, window),
            Command::Checkout(_)
            | Command::Heartbeat { .. }
            | Command::Return(_)
            | Command::Borrow(_)
            | Command::ReturnBorrow(_)
            | Command::ClassicCheckout(_)
            | Command::ClassicReturn { .. }
            | Command::Reclaim(_) => unreachable!("decided before"),
            Command::ImportEntitlement(_)
            | Command::WriteOff(_)
            | Command::SetBorrowRules(_)
            | Command::AddApiKey(_)
            | Command::RemoveApiKey { .. }
            | Command::SetBudget(_) => self.perform_offline(context, command),
            Command::AddTicket(_)
            | Command::JoinMember(_)
            | Command::CompleteJoin { .. }
            | Command::RemoveMember(_)
            | Command::OpenEpoch(_)
            | Command::RemoveOperator(_)
            | Command::RaiseAlarm(_)
            | Command::ClearAlarm { .. }
            | Command::EraseSubject(_)
            | Command::SetPool(_)
            | Command::RemovePool { .. }
            | Command::PruneAudit { .. }
            | Command::SetAppPolicy(_)
            | Command::PutTrustAnchor(_)
            | Command::RemoveTrustAnchor { .. }
            | Command::ReplaceDataKey(_)
            | Command::ResealActivation(_)
            | Command::RetireDataKey { .. }
            | Command::ReleaseReserved { .. }
            | Command::ForgetSigningKey { .. }
            | Command::Repepper(_)
            | Command::RetireSigningKey { .. }
            | Command::RemoveSecret { .. } => self.perform_operate(context, command),
            _ => self.perform_licensing(context, command),
        }
    }

    /// Whether the actor may do this kind of command at all.
    fn may(&self, actor: Actor, command: &Command) -> Result<(), Refusal> {
        let permit = permit(command);
        let allowed = match actor {
            Actor::Node(_) => permit.node,
            Actor::App { .. } => permit.app,
            Actor::Face(face) => permit.face.is_some_and(|may| may(face)),
            Actor::Operator(id) => {
                let operator = self.state.operators().get(&id);
                let operator = operator.ok_or(Refusal::new(RefusalCode::OperatorRevoked))?;
                if operator.expires_at_ms.is_some_and(|end| self.clock().civil_ms >= end) {
                    return Err(Refusal::new(RefusalCode::OperatorRevoked));
                }
                permit.operator.is_some_and(|needed| operator.role >= needed)
            }
        };
        if allowed { Ok(()) } else { Err(Refusal::new(RefusalCode::RoleTooNarrow)) }
    }

    /// The application a command is done for, if its credentials are current.
    pub(crate) fn credentials(&self, context: &Context) -> Result<&App, Refusal> {
        let revoked = Refusal::new(RefusalCode::CredentialsRevoked);
        match context.origin.actor {
            Actor::App { app, generation } => match self.state.apps().get(&app) {
                Some(known) if known.generation == generation => Ok(known),
                _ => Err(revoked),
            },
            Actor::Node(_) | Actor::Operator(_) | Actor::Face(_) => Err(revoked),
        }
    }

    /// Whether the request table has room for one more.
    pub(crate) fn admit(&self, request: &RequestId) -> Result<(), Refusal> {
        let rows = self.requests.len();
        let bound = match request.origin {
            KeyOrigin::Caller => self.limits.request_rows,
            // A gateway's own keys keep their promise while memory lasts.
            KeyOrigin::Gateway => self.limits.request_rows.saturating_mul(2),
        };
        if rows >= bound {
            return Err(Refusal::new(RefusalCode::RequestTableFull));
        }
        Ok(())
    }

    /// The answer of an earlier command under the same request id.
    fn answered_before(
        &self,
        request: &RequestId,
        command: &Command,
    ) -> Result<Option<Outcome>, Refusal> {
        let reused = Refusal::new(RefusalCode::IdempotencyKeyReused);
        if self.state.lease_by_scope(&request.scope).is_some() {
            return Err(reused);
        }
        let remembered = match self.requests.find(&request.scope) {
            None => return Ok(None),
            Some(RequestRecord::Other(other)) if other.request.body == request.body => other,
            Some(_) => return Err(reused),
        };
        Ok(Some(match &remembered.outcome {
            RememberedOutcome::Activation { activation } => self.activated_before(*activation)?,
            RememberedOutcome::Counted { license } => self.usage_totals(*license),
            RememberedOutcome::Done => Outcome::Done,
            RememberedOutcome::Ticket { node } => self.ticket_before(*node, command),
            RememberedOutcome::Unchanged => Outcome::Unchanged,
            RememberedOutcome::Imported => Outcome::Imported { already: true },
            RememberedOutcome::App { app, client_id, generation } => Outcome::App(AppOutcome {
                app: *app,
                client_id: client_id.clone(),
                generation: *generation,
                secret_matches: self.carries_secret_of(command, *app),
            }),
        }))
    }

    fn remember(&mut self, request: RequestId, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Unchanged => RememberedOutcome::Unchanged,
            Outcome::Imported { .. } => RememberedOutcome::Imported,
            Outcome::Ticket { node, .. } => RememberedOutcome::Ticket { node: *node },
            Outcome::Activated(activated) if let Some(activation) = activated.activation => {
                RememberedOutcome::Activation { activation }
            }
            Outcome::Counted(totals) => RememberedOutcome::Counted { license: totals.license },
            Outcome::App(app) => RememberedOutcome::App {
                app: app.app,
                client_id: app.client_id.clone(),
                generation: app.generation,
            },
            _ => RememberedOutcome::Done,
        };
        let done_led_ms = self.clock().led_ms;
        let remembered = Remembered { request, outcome, done_led_ms };
        self.requests.push(RequestRecord::Other(Box::new(remembered)));
    }

    /// Whether a command carries the MAC of an application's secret in force.
    fn carries_secret_of(&self, command: &Command, app: AppId) -> bool {
        let carried = match command {
            Command::RegisterApp(registration) => &registration.secret_mac,
            Command::RotateAppSecret(rotation) => &rotation.secret_mac,
            _ => return false,
        };
        self.state.apps().get(&app).is_some_and(|app| app.secret_mac == *carried)
    }

    /// The package and lease that a refused command was about.
    fn concerns(&self, actor: Actor, command: &Command) -> (Option<Name>, Option<LeaseId>) {
        match command {
            Command::Checkout(checkout) => (Some(checkout.package.clone()), None),
            Command::ImportPackage(import) => (Some(import.terms.package.clone()), None),
            Command::SuspendPackage(change)
            | Command::ResumePackage(change)
            | Command::RevokePackage(change) => (Some(change.package.clone()), None),
            Command::TransferSeats(transfer) => (Some(transfer.package.clone()), None),
            Command::ReleaseReserved { package, .. } => (Some(package.clone()), None),
            Command::Reclaim(reclaim) => {
                let known = self.package_of(reclaim.lease);
                (Some(known.unwrap_or_else(|| reclaim.package.clone())), Some(reclaim.lease))
            }
            Command::SetPool(set) => (Some(set.package.clone()), None),
            Command::RemovePool { package, .. } => (Some(package.clone()), None),
            Command::Return(give_back) => (self.package_of(give_back.lease), Some(give_back.lease)),
            Command::Release { lease, .. }
            | Command::Borrow(Borrow { lease, .. })
            | Command::ReturnBorrow(ReturnBorrow { lease, .. })
            | Command::WriteOff(WriteOff { lease, .. })
            | Command::ClassicReturn { lease } => (self.package_of(*lease), Some(*lease)),
            Command::ImportEntitlement(_)
            | Command::SetBorrowRules(_)
            | Command::SetBudget(_)
            | Command::ClassicCheckout(_) => (self.package_of_offline(command), None),
            _ => (self.licensed_package(actor, command), None),
        }
    }

    /// The package of a lease that is live or ended lately.
    pub(crate) fn package_of(&self, lease: LeaseId) -> Option<Name> {
        match self.state.lease(lease) {
            Some(lease) => Some(self.state.at(lease.package()).terms().package.clone()),
            None => self.requests.ended(lease).map(|ended| ended.package.clone()),
        }
    }

    /// The place of a grant made now.
    pub(crate) fn next_fence(&mut self, context: &Context) -> Fence {
        let mut epoch = self.cluster().map_or(0, |cluster| cluster.epoch);
        if planted::is(Bug::FenceReused) {
            epoch = epoch.min(1);
        }
        let fence = Fence { epoch, index: context.index, position: context.position };
        let meta = self.state.meta_mut();
        assert!(meta.last_fence < Some(fence), "fences strictly increase");
        meta.last_fence = Some(fence);
        fence
    }
}

/// A decision to refuse.
pub(crate) fn refuse(code: RefusalCode) -> Decision {
    Err(Refusal::new(code))
}

/// Whether a text can name something: it is part of keys, so it is bounded and has no control
/// characters.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// Whether a free text is short enough to keep.
pub(crate) fn is_text(text: &str) -> bool {
    text.chars().count() <= MAX_TEXT_CHARS
}

/// Refuses what would pass a bound.
pub(crate) fn within(bounds: bool) -> Result<(), Refusal> {
    if bounds { Ok(()) } else { Err(Refusal::new(RefusalCode::LimitReached)) }
}
