//! The routes of license keys for operators: licenses, clients, activations, borrowing, secrets of
//! faces.

use lease::command::Role;
use protocol::cloud::admin;

use super::{created, ok, schema_of};
use crate::calls;
use crate::calls::licensing::{activations, clients, licenses, offline, secrets};
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// A call of operators; what only reads is for auditors, too.
macro_rules! admin {
    ($id:literal $method:ident $path:literal $role:ident, $summary:literal, $request:expr,
     $answer:expr, $failures:expr, $($handler:ident)::+) => {
        Operation {
            id: $id,
            method: Verb::$method,
            path: $path,
            credential: Credential::Operator(Role::$role),
            protocol: Protocol::Admin,
            summary: $summary,
            request: $request,
            answers: &[$answer],
            failures: $failures,
            handler: handler!($($handler)::+),
        }
    };
}

const READ: &[u16] = &[401, 403, 503];
const QUERY: &[u16] = &[400, 401, 403, 503];
const READ_ONE: &[u16] = &[401, 403, 404, 503];
const QUERY_ONE: &[u16] = &[400, 401, 403, 404, 503];
const CHANGE: &[u16] = &[400, 401, 403, 404, 409, 413, 422, 429, 503];

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    admin!("issueLicense" Post "/admin/licenses" Operator,
        "Issues a license key, bound to a plan and a package.",
        RequestShape::Json(schema_of::<admin::IssueLicenseRequest>),
        created(schema_of::<admin::IssuedLicenseResponse>, "The license; its key is shown once."),
        CHANGE, licenses::issue),
    admin!("listLicenses" Get "/admin/licenses" Auditor,
        "Lists licenses, page by page.",
        RequestShape::Query(licenses::parameters),
        ok(schema_of::<admin::LicenseList>, "One page."), QUERY, licenses::list),
    admin!("showLicense" Get "/admin/licenses/{license_id}" Auditor,
        "Shows a license.", RequestShape::Nothing,
        ok(schema_of::<admin::LicenseView>, "The license."), READ_ONE, licenses::show),
    admin!("suspendLicense" Post "/admin/licenses/{license_id}/suspend" Operator,
        "Refuses a license everywhere until it is resumed; its activations keep their seats.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::LicenseView>, "The license."), CHANGE, licenses::suspend),
    admin!("resumeLicense" Post "/admin/licenses/{license_id}/resume" Operator,
        "Undoes a suspension.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::LicenseView>, "The license."), CHANGE, licenses::resume),
    admin!("cancelLicense" Post "/admin/licenses/{license_id}/cancel" Operator,
        "Ends a license for good; its seats come free.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::LicenseView>, "The license."), CHANGE, licenses::cancel),
    admin!("revokeLicense" Post "/admin/licenses/{license_id}/revoke" Operator,
        "Ends a license until it is reinstated; its seats come free.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::LicenseView>, "The license."), CHANGE, licenses::revoke),
    admin!("reinstateLicense" Post "/admin/licenses/{license_id}/reinstate" Operator,
        "Undoes a revocation.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::LicenseView>, "The license."), CHANGE, licenses::reinstate),
    admin!("rotateLicenseKey" Post "/admin/licenses/{license_id}/rotate" Operator,
        "Replaces a license's key; the former one is unknown at once.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::IssuedLicenseResponse>, "The license; its key is shown once."),
        CHANGE, licenses::rotate),
    admin!("listClients" Get "/admin/clients" Auditor,
        "Lists those to whom license keys are issued.",
        RequestShape::Query(clients::parameters),
        ok(schema_of::<admin::ClientList>, "One page."), QUERY, clients::list),
    admin!("addClient" Post "/admin/clients" Operator,
        "Adds somebody to whom license keys are issued.",
        RequestShape::Json(schema_of::<admin::AddClientRequest>),
        created(schema_of::<admin::ClientView>, "The client."), CHANGE, clients::add),
    admin!("banClient" Post "/admin/clients/{client_id}/ban" Operator,
        "Refuses all licenses of a client.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::ClientView>, "The client."), CHANGE, clients::ban),
    admin!("unbanClient" Post "/admin/clients/{client_id}/unban" Operator,
        "Undoes a ban.",
        RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        ok(schema_of::<admin::ClientView>, "The client."), CHANGE, clients::unban),
    admin!("listActivations" Get "/admin/activations" Auditor,
        "Lists what is activated under licenses, with counts by organisation and project.",
        RequestShape::Query(activations::parameters),
        ok(schema_of::<admin::ActivationList>, "One page."), QUERY, activations::list),
    admin!("showActivation" Get "/admin/activations/{activation_id}" Auditor,
        "Shows an activation.", RequestShape::Nothing,
        ok(schema_of::<admin::ActivationView>, "The activation."), READ_ONE, activations::show),
    admin!("revokeActivation" Post "/admin/activations/{activation_id}/revoke" Operator,
        "Refuses an activation's holder until it is reinstated.",
        RequestShape::OptionalJson(schema_of::<admin::ActivationChangeRequest>),
        ok(schema_of::<admin::ActivationView>, "The activation."), CHANGE, activations::revoke),
    admin!("reinstateActivation" Post "/admin/activations/{activation_id}/reinstate" Operator,
        "Undoes the revocation of an activation.",
        RequestShape::OptionalJson(schema_of::<admin::ActivationChangeRequest>),
        ok(schema_of::<admin::ActivationView>, "The activation."), CHANGE, activations::reinstate),
    admin!("removeActivation" Delete "/admin/activations/{activation_id}" Operator,
        "Forgets an activation; its holder may activate anew.",
        RequestShape::Query(activations::removal_parameters),
        ok(schema_of::<admin::RemoveActivationResponse>, "It is forgotten."),
        &[400, 401, 403, 404, 409, 429, 503], activations::remove),
    admin!("showBorrowRules" Get "/admin/packages/{package_id}/borrow-rules" Auditor,
        "Shows who may borrow how much of a package.", RequestShape::Nothing,
        ok(schema_of::<admin::BorrowRulesView>, "The rules."), READ_ONE, offline::show_rules),
    admin!("setBorrowRules" Put "/admin/packages/{package_id}/borrow-rules" Operator,
        "Says who may borrow how much of a package, never more than it allows.",
        RequestShape::Json(schema_of::<admin::BorrowRules>),
        ok(schema_of::<admin::BorrowRulesView>, "The rules."), CHANGE, offline::set_rules),
    admin!("listOfflineLeases" Get "/admin/packages/{package_id}/offline" Auditor,
        "Lists the leases of a package for which an offline token is outstanding.",
        RequestShape::Query(offline::parameters),
        ok(schema_of::<admin::OfflineList>, "One page."), QUERY_ONE, offline::list),
    admin!("writeOffLease" Post "/admin/leases/{lease_id}/write-off" Operator,
        "Frees the seats of a device that is lost for good, whatever token it has.",
        RequestShape::Json(schema_of::<admin::WriteOffRequest>),
        ok(schema_of::<admin::WriteOffResponse>, "The seats are free."),
        &[400, 401, 403, 404, 409, 410, 413, 422, 429, 503], offline::write_off),
    admin!("listEvaluationKeys" Get "/admin/evaluation/keys" Auditor,
        "Lists the versions of the key that signs evaluation licenses.", RequestShape::Nothing,
        ok(schema_of::<admin::EvaluationKeys>, "The versions."), READ, secrets::evaluation_keys),
    admin!("rotateEvaluationKey" Post "/admin/evaluation/keys/rotate" Admin,
        "Makes a new version of that key, which signs from now on.",
        RequestShape::OptionalJson(schema_of::<admin::RotateEvaluationKeyRequest>),
        ok(schema_of::<admin::EvaluationKeys>, "The versions."),
        CHANGE, secrets::rotate_evaluation_key),
    admin!("listClassicVendors" Get "/admin/classic/vendors" Auditor,
        "Lists vendors whose clients sign requests of the classic face.",
        RequestShape::Query(calls::paged::parameters),
        ok(schema_of::<admin::ClassicVendorList>, "One page."), QUERY, secrets::vendors),
    admin!("addClassicVendor" Post "/admin/classic/vendors" Admin,
        "Sets the secret that a vendor's clients sign with; it is never shown again.",
        RequestShape::Json(schema_of::<admin::ClassicVendorRequest>),
        ok(schema_of::<admin::ClassicVendorView>, "The vendor."), CHANGE, secrets::add_vendor),
];
