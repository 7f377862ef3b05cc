//! The API as people and programs read it: the page, its stylesheet, the schema of packages.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};

use crate::call::Call;
use crate::docs;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /docs`
pub(crate) async fn page(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let html = docs::page(&shared.config.faces).as_bytes().to_vec();
    let reply = Reply::new(StatusCode::OK, HTML, html)
        .header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(docs::POLICY))
        .header(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(reply.header(CACHE_CONTROL, AN_HOUR))
}

/// `GET /docs/style.css`
pub(crate) async fn style(_shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let reply = Reply::new(StatusCode::OK, CSS, docs::STYLE.as_bytes().to_vec());
    Ok(reply.header(CACHE_CONTROL, AN_HOUR))
}

/// `GET /schemas/package.schema.json`
pub(crate) async fn package_schema(_shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let schema = protocol::package::json_schema().as_bytes().to_vec();
    Ok(Reply::new(StatusCode::OK, SCHEMA, schema).header(CACHE_CONTROL, AN_HOUR))
}

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const SCHEMA: HeaderValue = HeaderValue::from_static("application/schema+json");
const AN_HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");
