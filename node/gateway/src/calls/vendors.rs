//! Vendors and the keys pinned for them.

use http::StatusCode;
use lease::command::{Command, Vendor};
use lease::outcome::Outcome;
use protocol::cloud::admin::{TrustVendorRequest, VendorList, VendorView};
use protocol::cloud::problem::Problem;
use protocol::keys::PublicKey;

use super::paged;
use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view;

/// `GET /admin/vendors`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let page = paged::asked(call)?;
    let ledger = shared.read(call).await?;
    let (vendors, next) =
        paged::by_name(ledger.vendors(), &page, |vendor| vendor.vendor.to_string());
    let vendors = vendors.into_iter().map(view::vendor).collect::<Result<Vec<VendorView>, _>>()?;
    Ok(Reply::ok(&VendorList { vendors, next }))
}

/// `POST /admin/vendors`
pub(crate) async fn trust(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: TrustVendorRequest = call.json()?;
    let key = PublicKey::from_pem(&request.public_key).map_err(|error| {
        Failure::from(
            Problem::new(422, "key_refused", "The key is not accepted.")
                .detail(error.to_string())
                .field("public_key"),
        )
    })?;
    let fingerprint = key.fingerprint();
    if let Some(expected) = &request.fingerprint
        && !expected.eq_ignore_ascii_case(&fingerprint.to_string())
    {
        return Err(Problem::new(422, "fingerprint_differs", "The key is another one.")
            .detail(format!("the key's fingerprint is {fingerprint}"))
            .field("fingerprint")
            .into());
    }
    let vendor = Vendor {
        vendor: request.vendor_id.as_str().into(),
        name: request.name.as_str().into(),
        public_der: key.spki_der().to_vec(),
        fingerprint: fingerprint.0,
    };
    let body = view::vendor(&vendor)?;
    let request_id = call.request_id(&request);
    let status = match shared.submit(call, Some(request_id), Command::PinVendor(vendor)).await? {
        Outcome::Done => StatusCode::CREATED,
        Outcome::Unchanged => StatusCode::OK,
        Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
        _ => return Err(Failure::internal("pinning had the outcome of another command")),
    };
    Ok(Reply::json(status, &body))
}
