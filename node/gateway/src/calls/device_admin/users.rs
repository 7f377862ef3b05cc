//! Admin users, and the API keys that are made for them.
//!
//! A user's password is kept as an Argon2id hash and nothing here asks for it again: whoever calls
//! this API shows an API key. Such a key is the row of an operator with the role Operator, named
//! `api-key/` and the user; it is shown once and known by its MAC from then on.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, SaltString};
use http::StatusCode;
use lease::Ledger;
use lease::command::{Command, Operator, Role};
use lease::ids::{OperatorId, UserId};
use lease::license::UserRow;
use protocol::device::admin::client::{
    ApiKeyView, CreateApiKeyRequest, CreateApiKeyResponse, CreateUserRequest, UserView,
};
use protocol::device::admin::{self, AdminFault, Kind};
use protocol::device::time::LicenseTime;
use protocol::secret::Secret;

use super::{MAX_LISTED, changed, fault, shown_before};
use crate::call::Call;
use crate::credentials::{new_api_key, operator_token_mac};
use crate::failure::Failure;
use crate::licensing::{draw_uuid, parse_uuid, uuid_text};
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /api/admin/users`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    Ok(Reply::ok(&ledger.users().take(MAX_LISTED).map(view).collect::<Vec<_>>()))
}

/// `POST /api/admin/users`
pub(crate) async fn add(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: CreateUserRequest = admin::read(&call.body).map_err(fault)?;
    let CreateUserRequest { username, password } = request;
    // The request's identity must not be its password.
    let password_mac = keys.operator_pepper.tag(&[b"password", password.expose().as_bytes()]);
    let request_id = call.request_id(&(&username, password_mac));
    let command = Command::AddUser(UserRow {
        user: UserId(draw_uuid(&*shared.context.entropy)),
        username: username.as_str().into(),
        password_hash: hash(shared, call, password).await?.into(),
        created_at_ms: 0,
    });
    changed(shared, call, request_id, command, Kind::User).await?;
    let ledger = shared.context.cluster.ledger();
    match ledger.user_by_name(&username) {
        Some(row) => Ok(Reply::json(StatusCode::CREATED, &view(row))),
        None => Err(Failure::internal("a user that was added is not there")),
    }
}

/// `GET /api/admin/api-keys`
pub(crate) async fn list_keys(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    let keys = ledger.operators().filter_map(|operator| key_view(&ledger, operator));
    Ok(Reply::ok(&keys.take(MAX_LISTED).collect::<Vec<_>>()))
}

/// `POST /api/admin/api-keys`
pub(crate) async fn add_key(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: CreateApiKeyRequest = admin::read(&call.body).map_err(fault)?;
    let no_user = || fault(AdminFault::NotFound(Kind::User));
    let user = UserId(parse_uuid(&request.user_id).ok_or_else(no_user)?);
    let name = {
        let ledger = shared.read(call).await?;
        let user = ledger.user(user).ok_or_else(no_user)?;
        format!("{API_KEY}{}", user.username)
    };
    let entropy = &*shared.context.entropy;
    let token = new_api_key(entropy);
    let token_mac = operator_token_mac(&keys.operator_pepper, token.expose());
    let mut number = [0; 8];
    entropy.fill(&mut number);
    let command = Command::AddOperator(Operator {
        operator: OperatorId(u64::from_le_bytes(number)),
        name: name.into(),
        role: Role::Operator,
        token_mac,
        expires_at_ms: None,
    });
    changed(shared, call, call.request_id(&request), command, Kind::User).await?;
    let ledger = shared.context.cluster.ledger();
    let operator = ledger.operator_by_mac(&token_mac).ok_or_else(|| shown_before("the API key"))?;
    let metadata = ApiKeyView {
        id: format!("{:016x}", operator.operator.0),
        user_id: uuid_text(user.0),
        prefix: token.expose().chars().take(PREFIX_CHARS).collect(),
        created_at: LicenseTime::from_unix_ms(ledger.clock().civil_ms),
    };
    Ok(Reply::json(StatusCode::CREATED, &CreateApiKeyResponse { token, metadata }))
}

/// Hashes on a thread that nothing else waits for; as costly as a signature, so as few at once.
async fn hash(shared: &Shared, call: &Call, password: Secret<String>) -> Result<String, Failure> {
    let left = shared.left(call.deadline);
    let Ok(Ok(_permit)) = tokio::time::timeout(left, shared.signing.acquire()).await else {
        return Err(Failure::unavailable(
            "overloaded",
            "This node has more to do than it can.",
            std::time::Duration::from_secs(1),
        ));
    };
    let mut salt = [0; 16];
    shared.context.entropy.fill(&mut salt);
    let hashed = shared.context.cluster.workers().run(move || {
        let salt = SaltString::encode_b64(&salt)?;
        let password = password.expose().as_bytes();
        Ok::<_, argon2::password_hash::Error>(
            Argon2::default().hash_password(password, &salt)?.to_string(),
        )
    });
    match hashed.await {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(_)) | Err(_) => Err(Failure::internal("a password could not be hashed")),
    }
}

fn view(row: &UserRow) -> UserView {
    let created_at = LicenseTime::from_unix_ms(row.created_at_ms);
    UserView {
        id: uuid_text(row.user.0),
        username: row.username.to_string(),
        created_at,
        updated_at: created_at,
    }
}

/// A key as a list shows it: neither its first characters nor when it was made are kept.
fn key_view(ledger: &Ledger, operator: &Operator) -> Option<ApiKeyView> {
    let username = operator.name.strip_prefix(API_KEY)?;
    let user = ledger.user_by_name(username)?;
    Some(ApiKeyView {
        id: format!("{:016x}", operator.operator.0),
        user_id: uuid_text(user.user.0),
        prefix: String::new(),
        created_at: LicenseTime::ZERO,
    })
}

/// How the names of API keys' rows begin.
const API_KEY: &str = "api-key/";
const PREFIX_CHARS: usize = 8;
