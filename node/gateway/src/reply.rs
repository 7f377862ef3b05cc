//! An answer before it is HTTP: status, body, and the few headers a call chooses itself.

use axum::body::Body;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

/// The media type of everything but problems.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// For probes.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Beside a body that ends within a bound of its own, however long it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lasting;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    content_type: HeaderValue,
    body: Vec<u8>,
    /// Sent in place of the body: it has no end yet.
    stream: Option<Body>,
    lasting: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// An answer with a body.
    pub(crate) fn new(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Self {
        Self { status, content_type, body, stream: None, lasting: false, headers: Vec::new() }
    }

    /// An answer in JSON.
    pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Self {
        let mut bytes = Vec::with_capacity(512);
        #[expect(clippy::expect_used, reason = "wire types hold texts, numbers and lists only")]
        serde_json::to_writer(&mut bytes, body).expect("an answer is JSON");
        Self::new(status, JSON, bytes)
    }

    /// 200 in JSON.
    pub(crate) fn ok<T: Serialize>(body: &T) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// 200 with a body that is made while it is sent.
    pub(crate) fn stream(content_type: HeaderValue, body: Body) -> Self {
        Self { stream: Some(body), ..Self::new(StatusCode::OK, content_type, Vec::new()) }
    }

    /// Says that the body takes long and ends by itself within a bound of its own: its connection
    /// is not idle meanwhile.
    pub(crate) fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, JSON, Vec::new())
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The headers that the call chose.
    #[cfg(test)]
    pub(crate) fn headers(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.headers.iter()
    }

    /// The answer as HTTP.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        *response.headers_mut() = HeaderMap::with_capacity(USUAL_HEADERS);
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_TYPE, self.content_type);
            if self.stream.is_none() {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            }
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        if self.lasting {
            response.extensions_mut().insert(Lasting);
        }
        *response.body_mut() = self.stream.unwrap_or_else(|| Body::from(self.body));
        response
    }
}

/// Room for the headers of an answer: those of the call, its rate, its key, and those of all.
const USUAL_HEADERS: usize = 16;
