//! What an application could check out now.

use protocol::cloud::lease::{DiscoverQuery, DiscoverResponse};
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    DiscoverQuery::into_params(|| None)
}

/// `GET /api/v1/licenses/discover`
pub(crate) async fn discover(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: DiscoverQuery = call.query()?;
    let app = call.app()?;
    let ledger = shared.read(call).await?;
    // An app sees its own product only; asking for another finds nothing.
    let is_own = query.product.as_deref().is_none_or(|product| *product == *app.product);
    let licenses = if is_own {
        let vendor = ledger.app(app.app).map(|app| app.vendor.clone());
        ledger
            .packages_of_product(&app.product)
            .filter(|package| vendor.as_ref() == Some(&package.terms.vendor))
            .map(|package| view::discovered(&package))
            .collect()
    } else {
        Vec::new()
    };
    Ok(Reply::ok(&DiscoverResponse { licenses }))
}
