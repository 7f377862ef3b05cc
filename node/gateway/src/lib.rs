//! The HTTP face of a node.

mod credentials;
mod keys;
mod signer;

pub use credentials::{
    CLIENT_SECRET_PREFIX, OPERATOR_TOKEN_PREFIX, client_secret_mac, new_client_secret,
    new_operator_token, operator_token_mac,
};
pub use keys::{Keys, KeysCell};
pub use signer::{SignerError, TokenSigner};
