//! The verbs, one module for each noun.

pub(crate) mod activation;
pub(crate) mod app;
pub(crate) mod app_policy;
pub(crate) mod application;
pub(crate) mod audit;
pub(crate) mod borrow;
pub(crate) mod bundle;
pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod enroll;
pub(crate) mod hand_over;
pub(crate) mod keys;
pub(crate) mod lease;
pub(crate) mod license;
pub(crate) mod member;
pub(crate) mod offline_token;
pub(crate) mod operator;
pub(crate) mod package;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod roll;
pub(crate) mod shared_secret;
pub(crate) mod snapshot;
pub(crate) mod standing;
pub(crate) mod subject;
pub(crate) mod top;
pub(crate) mod usage;
pub(crate) mod vendor;
pub(crate) mod watching;
pub(crate) mod workshop;

use clap::Args;
use jiff::civil;
use jiff::tz::TimeZone;
use protocol::cloud::admin::{MAX_PAGE_ITEMS, ReasonRequest};
use protocol::wire::{self, UtcTime};
use serde::Serialize;
use serde::de::value::Error as WordError;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::Value;

use crate::client::Request;
use crate::error::{CliError, Result};
use crate::report::{Part, duration};
use crate::session::Session;

/// Why something is done.
#[derive(Debug, Clone, Default, Args)]
pub struct ReasonOptions {
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl ReasonOptions {
    /// A text, checked as the server would.
    fn text(&self) -> Result<Option<String>> {
        match &self.reason {
            Some(text) if !wire::is_text(text, wire::MAX_TEXT_CHARS) => Err(CliError::Usage(
                format!("--reason wants 1 to {} characters", wire::MAX_TEXT_CHARS),
            )),
            text => Ok(text.clone()),
        }
    }

    fn body(&self) -> ReasonRequest {
        ReasonRequest { reason: self.reason.clone() }
    }
}

/// An answer as the document that scripts read: what this release knows of it.
fn document<T: Serialize>(answer: &T) -> Result<Value> {
    serde_json::to_value(answer)
        .map_err(|error| CliError::Failed(format!("the answer cannot be written: {error}")))
}

/// Refuses what cannot be an id, before it gets into a path.
fn require_id<'a>(what: &str, id: &'a str) -> Result<&'a str> {
    if wire::is_id(id) {
        Ok(id)
    } else {
        Err(CliError::Usage(format!("{id:?} is no {what}: want letters, digits and . _ -")))
    }
}

/// A wire word as people read it.
fn words<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word.replace('_', " "),
        _ => "-".to_owned(),
    }
}

/// Reads a wire word on the command line, where a hyphen is as good as `_`.
fn wire_word<T: DeserializeOwned>(text: &str) -> std::result::Result<T, WordError> {
    let word = text.replace('-', "_");
    T::deserialize(IntoDeserializer::<WordError>::into_deserializer(word))
}

/// Reads a time or a day; of a day the first moment.
fn first_moment(text: &str) -> std::result::Result<UtcTime, &'static str> {
    moment(text).map(|(time, _is_day)| time)
}

/// Reads a time or a day; of a day the last moment.
fn last_moment(text: &str) -> std::result::Result<UtcTime, &'static str> {
    moment(text).map(|(time, is_day)| match is_day {
        true => UtcTime::from_unix_ms(time.unix_ms + DAY_MS - 1),
        false => time,
    })
}

fn moment(text: &str) -> std::result::Result<(UtcTime, bool), &'static str> {
    const WANT: &str = "want a day or a time in UTC, as 2027-01-31 or 2027-01-31T12:00:00Z";
    if let Ok(time) = text.parse::<UtcTime>() {
        return Ok((time, false));
    }
    let digits_only: String =
        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if digits_only != "0000-00-00" {
        return Err(WANT);
    }
    let day: civil::Date = text.parse().map_err(|_| WANT)?;
    Ok((start_of(day).ok_or(WANT)?, true))
}

/// The first moment of a day in UTC.
fn start_of(day: civil::Date) -> Option<UtcTime> {
    let start = day.to_zoned(TimeZone::UTC).ok()?;
    Some(UtcTime::from_unix_ms(start.timestamp().as_millisecond()))
}

/// The day of a time, as tables show it.
fn day_of(time: UtcTime) -> String {
    time.to_string().chars().take("0000-00-00".len()).collect()
}

/// What a package allows offline: whether tokens, how long a borrow, how many seats at once, how
/// many left for online users.
fn offline_line(tokens: bool, max_ms: u64, seats_max: Option<u32>, reserve: u32) -> String {
    let mut line = if tokens { "tokens" } else { "no tokens" }.to_owned();
    if max_ms == 0 {
        return line + ", no borrowing";
    }
    line += &format!(", borrowing up to {}", duration(max_ms));
    if let Some(seats) = seats_max {
        line += &format!(", {seats} seats at once");
    }
    if reserve > 0 {
        line += &format!(", {reserve} left for online");
    }
    line
}

/// Asks for one page after the other until there are `limit` items, and says whether there is more.
async fn pages<P: DeserializeOwned, T>(
    session: &Session<'_>,
    path: &[&str],
    filters: &[(&'static str, Option<String>)],
    limit: Option<u32>,
    mut split: impl FnMut(P) -> (Vec<T>, Option<String>),
) -> Result<(Vec<T>, bool)> {
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    let mut items: Vec<T> = Vec::new();
    let mut cursor = None;
    loop {
        let wanted = u32::try_from(limit - items.len()).unwrap_or(u32::MAX).min(MAX_PAGE_ITEMS);
        let mut request = Request::get(path).bearer(session.settings.operator_token()?);
        for (name, value) in filters {
            request = request.query(name, value.clone());
        }
        let request =
            request.query("cursor", cursor.clone()).query("limit", Some(wanted.to_string()));
        let (page, next) = split(session.client.send(&request).await?.json()?);
        items.extend(page);
        match next {
            // A page may be empty and not the last: the server looks at so many rows at a time.
            Some(next) if items.len() < limit && cursor.as_ref() != Some(&next) => {
                cursor = Some(next);
            }
            next => {
                let is_cut = next.is_some() || items.len() > limit;
                items.truncate(limit);
                return Ok((items, is_cut));
            }
        }
    }
}

/// What a list says when it is not the whole.
fn cut_line(count: usize) -> Part {
    Part::Line(format!("the first {count}; raise --limit for more"))
}

/// A wire word for a query.
fn query_word<T: Serialize>(value: Option<T>) -> Option<String> {
    match value.map(|value| serde_json::to_value(value)) {
        Some(Ok(Value::String(word))) => Some(word),
        _ => None,
    }
}

const DAY_MS: i64 = 86_400_000;

#[cfg(test)]
mod scripts;

#[cfg(test)]
mod tests {
    use protocol::cloud::admin::{LicenseProtocol, PlanCheckMode};

    use super::*;

    #[test]
    fn words_are_the_wires_and_a_mistake_names_them() {
        assert_eq!(wire_word::<LicenseProtocol>("device"), Ok(LicenseProtocol::Device));
        let mode = wire_word::<PlanCheckMode>("each-execution");
        assert_eq!(mode, Ok(PlanCheckMode::EachExecution));
        let error = wire_word::<LicenseProtocol>("devcie").unwrap_err().to_string();
        assert!(error.contains("`device`, `deployment`, `evaluation`"), "{error}");
        assert_eq!(query_word(Some(LicenseProtocol::Device)).as_deref(), Some("device"));
        assert_eq!(query_word(None::<LicenseProtocol>), None);
    }

    #[test]
    fn offline_use_is_said_in_one_line() {
        let week_ms = 604_800_000;
        for (line, expected) in [
            (offline_line(false, 0, None, 0), "no tokens, no borrowing"),
            (offline_line(true, week_ms, None, 0), "tokens, borrowing up to 7d 0h"),
            (
                offline_line(true, week_ms, Some(5), 2),
                "tokens, borrowing up to 7d 0h, 5 seats at once, 2 left for online",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn a_day_is_a_first_and_a_last_moment() {
        for (text, first, last) in [
            ("2027-01-31", "2027-01-31T00:00:00Z", "2027-01-31T23:59:59.999Z"),
            ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
        ] {
            assert_eq!(first_moment(text).map(|time| time.to_string()).as_deref(), Ok(first));
            assert_eq!(last_moment(text).map(|time| time.to_string()).as_deref(), Ok(last));
        }
        for text in ["", "today", "2027-02-30", "2027-1-31", "20270131", "2027-01-31T12:00:00"] {
            assert!(first_moment(text).is_err(), "{text:?}");
        }
        let time = "2027-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(day_of(time), "2027-01-31");
    }
}
