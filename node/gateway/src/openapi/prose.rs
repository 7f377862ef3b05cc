//! What the document says in sentences beside what the route table says in data.

use crate::auth::role_name;
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// The description of an operation: what is special about it, who may ask, and the rules it shares
/// with others.
pub(super) fn description(operation: &Operation, is_paged: bool) -> String {
    let mut sentences = Vec::new();
    let special = SPECIAL.iter().find(|(id, _)| *id == operation.id);
    sentences.extend(special.map(|(_, text)| (*text).to_owned()));
    if operation.protocol == Protocol::Classic {
        sentences.push(CLASSIC_ONLY.to_owned());
    }
    sentences.push(credential(operation));
    // Where no other body is refused, asking again is harmless without a key.
    if operation.is_keyed() && operation.failures.contains(&422) {
        sentences.push(KEYED.to_owned());
    }
    if is_paged {
        sentences.push(PAGED.to_owned());
    }
    if operation.has_consistency() && operation.needs_recovery() {
        sentences.push(STALE.to_owned());
    }
    if matches!(operation.request, RequestShape::OptionalJson(_)) {
        sentences.push("The body may be left out.".to_owned());
    }
    sentences.join("\n\n")
}

fn credential(operation: &Operation) -> String {
    match operation.credential {
        Credential::Nobody => "Anybody may ask.".to_owned(),
        Credential::Client => "The client id and secret are the proof, in the form or as HTTP \
                               Basic credentials."
            .to_owned(),
        Credential::AccessToken(scope) => {
            format!("Needs an access token with the scope `{}`.", scope.name())
        }
        Credential::Operator(role) => {
            format!("Needs an operator token with the role `{}`{}.", role_name(role), wider(role))
        }
        Credential::ApiKey(role) => format!(
            "Needs an operator token with the role `{}`{}, or a key that stands for one, in \
             `X-API-Key`.",
            role_name(role),
            wider(role)
        ),
        Credential::JoinToken => {
            "Needs the join token that the new node was handed; it is good once.".to_owned()
        }
        Credential::Face => proof(operation.protocol).to_owned(),
    }
}

fn wider(role: lease::command::Role) -> &'static str {
    match role {
        lease::command::Role::Admin => "",
        _ => " or a wider one",
    }
}

/// What a face takes as proof in the request itself.
fn proof(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Device => {
            "The proof is in the body: a license key and the device's fingerprint, later the \
             session that was made with them."
        }
        Protocol::Deployment => {
            "The proof is in the request: the license key, later the token with its version."
        }
        Protocol::Evaluation => {
            "The proof is in the body: the activation code, later the activation id."
        }
        Protocol::Classic => {
            "The proof is in the headers: a signature under the vendor's secret, an API key, or an \
             operator token."
        }
        _ => "The proof is in the request.",
    }
}

/// What a path parameter names.
pub(super) fn path_parameter(name: &str) -> String {
    let told = PATH_PARAMETERS.iter().find(|(known, _)| *known == name);
    match told {
        Some((_, text)) => (*text).to_owned(),
        None => format!("Which {}.", name.trim_end_matches("_id").replace('_', " ")),
    }
}

/// What a status means where nothing more is known of it.
pub(super) fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is malformed; the field to blame is named.",
        401 => "No credential, or one that is not valid (any more).",
        403 => "The credential or the package does not allow it.",
        404 => "There is no such thing for this caller.",
        408 => "The body took longer than 10 seconds (3 before a credential was shown) to arrive.",
        409 => "Refused as things stand.",
        410 => "It is over: the lease has ended, or the events asked for are gone.",
        413 => {
            "The body is longer than 256 KiB; at the token endpoint, than 8 KiB; at a face that \
             takes its proof in the body, than 64 KiB (1 MiB to activate and verify a device)."
        }
        422 => {
            "Understood and not acceptable, or the idempotency key was used for another request."
        }
        429 => "Too many keyed requests are remembered, or too much was asked; see Retry-After.",
        500 => "The server is at fault; the request id finds it in the log.",
        503 => "This node cannot answer now; see Retry-After and `outcome`.",
        507 => "A node's disk is nearly full: returns and reads go on, nothing new is written.",
        _ => "An error.",
    }
}

/// Whether an operation's list comes in pages, by its parameters.
pub(super) fn is_paged(operation: &Operation) -> bool {
    let RequestShape::Query(parameters) = operation.request else { return false };
    operation.method == Verb::Get && parameters().iter().any(|parameter| parameter.name == "cursor")
}

/// What is said of the whole.
pub(super) const DESCRIPTION: &str = "\
A license server that cannot oversell: every node answers every call, and every checkout is one \
decision in one replicated log.

Calls that change something take an `Idempotency-Key`: the answer is the same however often, and \
through whichever node, the call is repeated. Errors outside a protocol with words of its own are \
problems (RFC 9457); programs decide by `code`. A failed write says in `outcome` whether it may \
have happened.

Whoever asks too often is answered 429 with `Retry-After`; `RateLimit` says in every counted \
answer what is left. Reads are linearizable unless `consistency=stale` is asked for. Lists come in \
pages. Every answer names its request id.";
const CLASSIC_ONLY: &str = "Exists only on nodes with `protocols.classic` switched on; the \
                            document that other nodes serve does not list it.";
const KEYED: &str = "Happens once per `Idempotency-Key`: repeated, it gives the same answer; with \
                     another body under the same key, 422.";
const PAGED: &str =
    "The list comes in pages: ask again with `cursor` set to `next` until there is none.";
const STALE: &str = "Linearizable; with `consistency=stale`, answered from what this node has \
                     applied, with index and age.";

const PATH_PARAMETERS: [(&str, &str); 13] = [
    ("app_id", "The application, as its registration named it."),
    ("package_id", "The package, as its vendor named it."),
    ("lease_id", "The lease, as the checkout named it."),
    ("license_id", "The license, not its key."),
    ("client_id", "The client to whom license keys are issued."),
    ("activation_id", "The activation of a device, cluster or host."),
    ("product", "The product of the device catalog, by id or slug."),
    ("feature", "The feature, by id or slug."),
    ("plan", "The plan, by id or slug."),
    ("scope", "The scope of the feature, by id or slug."),
    ("tool", "The tool, as its vendor calls it."),
    ("operator_id", "The operator token, by the id that the list and the audit log show."),
    ("reference", "What stands for a person or a host in leases and in the audit log."),
];

/// What is special about an operation, beside its summary.
const SPECIAL: &[(&str, &str)] = &[
    (
        "issueToken",
        "The client credentials grant of OAuth 2.0. The token is a JWT that every node verifies; \
         its scopes are those asked for, or all that the application has.",
    ),
    (
        "checkoutLicense",
        "Every answer of 200 is a seat that nobody else has: paid ones first, then overage up to \
         the package's bound and the pool's share. A refusal says why, what would have been \
         granted, and when a seat may come free. The seat lasts `expires_in_ms` from when the \
         request was sent; renew it every `heartbeat_interval_ms`.",
    ),
    (
        "renewLease",
        "Shows the renewal token of the answer before and gives the next one. A token that was \
         used before is refused, except the last one for 30 seconds: a lost answer may be asked \
         for again.",
    ),
    (
        "renewLeases",
        "As `renewLease` for each of them, in one request: for applications that hold many seats.",
    ),
    (
        "returnLease",
        "The seat is free when this is answered. Needs no key: the lease itself makes it \
         repeatable.",
    ),
    ("discoverLicenses", "Shows only packages of the application's own product."),
    (
        "importPackage",
        "The signature is verified under the key that was pinned for the vendor before; a key that \
         comes along is only compared with it. Importing the same bytes again changes nothing.",
    ),
    (
        "trustVendor",
        "What packages of this vendor are verified under from now on. Another key for a vendor \
         that has one is refused.",
    ),
    ("suspendPackage", "Leases that are out run to their end; nothing is renewed."),
    ("revokePackage", "This cannot be undone."),
    (
        "releaseReservedSeats",
        "After a restore or a recovery nobody knows which seats were borrowed meanwhile, so as \
         many as could have been are kept until the last such borrow would end. Release them only \
         when it is certain that no device holds such a token: its seat would be sold twice.",
    ),
    (
        "registerApp",
        "The secret is stored only as its MAC; it cannot be shown again, only rotated.",
    ),
    (
        "rotateAppSecret",
        "From the next request on, on every node, tokens that were given under the former secret \
         are not valid.",
    ),
    (
        "releaseLease",
        "Its holder learns of it at the next heartbeat: 410. A lease with an offline token \
         outstanding is not released; write it off instead.",
    ),
    (
        "showCluster",
        "Each node is asked how it stands, and those that do not answer in time are listed as \
         such. Needs no quorum: it tells the truth when there is none.",
    ),
    (
        "listAlarms",
        "Those in the log, and what each node that answers finds now. Needs no quorum: a node that \
         cannot write says so here.",
    ),
    (
        "clearAlarm",
        "An alarm ends by itself when its cause is gone; this is for one that stands without a \
         cause, as of a node that was replaced.",
    ),
    (
        "rotateCertificates",
        "Without `ca`, nodes make themselves new certificates at once. With it, a call goes as far \
         towards another authority as nodes allow at the time and says whom the next step waits \
         for: ask until `done`. Clients that have the former root alone go on; trust in it ends \
         with `finish`. A repeat goes on where things are, also under the same key.",
    ),
    (
        "rotateKey",
        "Nothing that was sealed, stored or signed before becomes invalid. With `finish`, former \
         versions go; 409 says what still depends on them.",
    ),
    (
        "setAppPolicy",
        "The whole policy in the place of the one before. Where it begins to ask for a certificate \
         (RFC 8705), the tokens that the application has end; its secret stays.",
    ),
    (
        "writeOffLease",
        "The token of the lost device stays good until it ends, so its seat may be used twice \
         until then: a reason is wanted for the audit trail.",
    ),
    ("rotateLicenseKey", "The new key is shown this once; activations under the license stay."),
    ("issueLicense", "The key is shown this once; only its MAC is stored."),
    ("isReady", "A linearizable read, answered in time, is the check that matters."),
    ("getMetrics", "OpenMetrics, as Prometheus reads it. Asked also when the node is overloaded."),
    ("getOpenApi", "What this node serves, which is all there is but for faces switched off."),
    ("getDocs", "Works without JavaScript and asks no other server for anything."),
    ("getPackageSchema", "JSON Schema 2020-12 of both layouts; the address that `$schema` names."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routes::operations;

    #[test]
    fn what_is_told_is_told_of_operations_that_exist() {
        let ids: BTreeSet<&str> = operations().map(|row| row.id).collect();
        for (id, text) in SPECIAL {
            assert!(ids.contains(id), "{id} is no operation");
            assert!(text.ends_with('.'), "{id}");
        }
        let named: BTreeSet<&str> = operations().flat_map(|row| row.path_parameters()).collect();
        for (name, _) in PATH_PARAMETERS {
            assert!(named.contains(name), "{name} is in no path");
        }
    }

    #[test]
    fn every_operation_says_who_may_ask() {
        for operation in operations() {
            let text = description(operation, is_paged(operation));
            let says = ["Needs", "Anybody", "proof"].iter().any(|word| text.contains(word));
            assert!(says, "{}: {text}", operation.id);
        }
    }
}
