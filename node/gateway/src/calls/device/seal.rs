//! Sealing and signing the license of an answer, on a thread that nothing else waits for.

use std::sync::Arc;

use protocol::device::crypto::{NONCE_BYTES, SealedLicense, SessionKey};
use zeroize::Zeroizing;

use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::shared::Shared;

/// Seals a payload to a device under a fresh nonce and signs it; few signatures at once.
pub(super) async fn sealed(
    shared: &Shared,
    call: &Call,
    keys: &Arc<Keys>,
    fingerprint: String,
    session: SessionKey,
    license_json: Zeroizing<Vec<u8>>,
) -> Result<SealedLicense, Failure> {
    let mut nonce = [0; NONCE_BYTES];
    shared.context.entropy.fill(&mut nonce);
    let left = shared.left(call.deadline);
    let Ok(Ok(_permit)) = tokio::time::timeout(left, shared.signing.acquire()).await else {
        return Err(Failure::unavailable(
            "overloaded",
            "This node has more to do than it can.",
            std::time::Duration::from_secs(1),
        ));
    };
    let keys = Arc::clone(keys);
    let signed = shared
        .context
        .cluster
        .workers()
        .run(move || keys.device.signer.seal(&fingerprint, nonce, &session, &license_json));
    match signed.await {
        Ok(Ok(sealed)) => Ok(sealed),
        Ok(Err(_)) | Err(_) => Err(Failure::internal("a license could not be signed")),
    }
}
