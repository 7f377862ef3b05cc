//! The request id: one 128-bit number that follows a request from the caller's log through ours,
//! the entry and the audit event.
//!
//! It comes from `X-Request-Id` when that is a UUID (with or without hyphens) and is drawn here
//! otherwise (UUIDv7, so that ids sort by time); the answer always names it.

use http::{HeaderMap, HeaderName};
use lease::ids::TraceId;
use storage::seam::{Clock, Entropy};
use uuid::Uuid;

/// The header, in requests and answers.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request.
pub(crate) fn of_request(headers: &HeaderMap, clock: &dyn Clock, entropy: &dyn Entropy) -> TraceId {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| matches!(text.len(), 32 | 36))
        .and_then(|text| Uuid::try_parse(text).ok())
        .filter(|uuid| !uuid.is_nil());
    TraceId(given.unwrap_or_else(|| draw(clock, entropy)).as_u128())
}

/// A new UUIDv7.
pub(crate) fn draw(clock: &dyn Clock, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let unix_ms = u64::try_from(clock.wall_ms()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

/// The id's text: a UUID in lower case with hyphens.
pub(crate) fn text(trace: TraceId) -> String {
    Uuid::from_u128(trace.0).hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use storage::seam::{RealClock, RealEntropy};

    use super::*;

    #[test]
    fn only_uuids_are_taken_over() {
        let given = "01890a5d-ac96-774b-bcce-b302099a8057";
        let table = [
            (given, true),
            ("01890a5dac96774bbcceb302099a8057", true),
            ("01890A5D-AC96-774B-BCCE-B302099A8057", true),
            ("{01890a5d-ac96-774b-bcce-b302099a8057}", false),
            ("00000000-0000-0000-0000-000000000000", false),
            ("my-request", false),
            ("", false),
        ];
        for (header, taken) in table {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(header).unwrap());
            let trace = of_request(&headers, &RealClock::new(), &RealEntropy);
            assert_eq!(text(trace) == given, taken, "{header:?}");
        }
    }

    #[test]
    fn drawn_ids_differ_and_name_their_version() {
        let (clock, entropy) = (RealClock::new(), RealEntropy);
        let (one, two) = (draw(&clock, &entropy), draw(&clock, &entropy));
        assert_ne!(one, two);
        assert_eq!(one.get_version_num(), 7);
    }
}
