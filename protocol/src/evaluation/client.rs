//! When a program may run: the order of checks of the published client, without its faults.
//!
//! ```text
//! validated less than an hour ago ─▶ run             (not when an answer is demanded)
//! no license file ─▶ activate
//! signature ─▶ revoked ─▶ end (six hours of tolerance) ─▶ refused, or on
//! offline license in a build for development ─▶ run
//! ask the server
//!   ok                 ─▶ run; skew learnt, outage over
//!   not ok             ─▶ refused; the file is marked only when the server says revoked
//!   error, no answer   ─▶ run until 24 hours after the first one, then refused
//! ```
//!
//! Kept here and stored by the caller ([`Memory`]): the last validation, the beginning of an outage
//! and the skew, so that a restart gives no day back. During an outage the server is asked every
//! five minutes and not at each request. Whether an offline license counts is the build's affair
//! and never the file's.
//!
//! Times are Unix milliseconds, from a clock held against its high-water mark
//! ([`crate::offline::HighWater`]). What it leaves to others: files, calls, locks (SDKs).

use serde::{Deserialize, Serialize};

use super::clock_skew::{ClockSkew, SkewChange, TOLERANCE_SECONDS};
use super::key_ring::KeyRing;
use super::license_file::{License, LicenseFile, LicenseFileError, SignatureError};
use super::message::Rejection;
use super::refusal::RefusalReason;
use super::wire::Answer;

/// For how long a validation counts: an hour.
pub const VALIDATION_INTERVAL_MS: i64 = 3_600_000;
/// How long a program runs without its server: a day.
pub const OFFLINE_GRACE_MS: i64 = 86_400_000;
/// How often the server is asked during an outage.
pub const RETRY_INTERVAL_MS: i64 = 300_000;

/// What outlives the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When the server last said that the license is good.
    pub last_validation_ms: Option<i64>,
    /// When the outage began that goes on.
    pub offline_since_ms: Option<i64>,
    /// When the server was last asked in vain.
    pub last_attempt_ms: Option<i64>,
    /// Offset of the clocks.
    pub skew: ClockSkew,
}

/// How a validation is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// Demand an answer of the server, whatever is remembered: at startup.
    pub force_online: bool,
    /// Whether this is a build for development, where an offline license counts.
    pub is_development: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Run.
    Run {
        /// How it was found good.
        basis: Basis,
        /// What to tell, though it may run.
        warning: Option<Warning>,
    },
    /// There is no license file: activate, then check again.
    Activate,
    /// Ask the server about this license, then [`Memory::on_reply`].
    AskServer {
        /// The license of the file.
        license: Box<License>,
        /// What to tell, whatever the answer.
        warning: Option<Warning>,
    },
    /// Do not run.
    Refuse(Rejection),
}

/// How a license was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The server said so less than an hour ago.
    Remembered,
    /// The server said so now.
    Server,
    /// A license without a server, in a build for development.
    Development,
    /// The server cannot be reached; it ran before.
    Grace {
        /// Until when, in Unix milliseconds.
        until_ms: i64,
    },
}

/// What people should know although the program runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warning {
    /// The end is past, by less than the clocks may differ.
    EndWithinTolerance,
    /// The clocks differ by more than six hours; the offset was not learnt.
    ClockFarOff {
        /// Server minus client.
        offset_seconds: f64,
    },
}

/// How asking the server ended.
#[derive(Clone, Copy)]
pub enum Reply<'a> {
    /// HTTP 200 with a body that could be read.
    Answer(&'a Answer),
    /// Another status, or a body that is none.
    ServerError,
    /// No connection, or no answer in time.
    NetworkError,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether to run; never `Activate` or `AskServer`.
    pub step: Step,
    /// Whether to mark the file as revoked ([`LicenseFile::revoke`]) and store it.
    pub mark_revoked: bool,
}

impl Memory {
    /// The next step. `file` is the license file as it was read; `None` is no file.
    pub fn check(
        &self,
        file: Option<&Result<LicenseFile, LicenseFileError>>,
        ring: &KeyRing,
        mode: Mode,
        now_ms: i64,
    ) -> Step {
        if !mode.force_online && is_within(self.last_validation_ms, VALIDATION_INTERVAL_MS, now_ms)
        {
            return Step::Run { basis: Basis::Remembered, warning: None };
        }
        let Some(file) = file else { return Step::Activate };
        let license = match believe(file, ring) {
            Ok(license) => license,
            Err(rejection) => return Step::Refuse(rejection),
        };
        if license.revoked {
            return Step::Refuse(Rejection::Revoked);
        }
        let past_seconds = self.skew.corrected(seconds(now_ms)) - license.expires_at;
        // A number that cannot be compared is no end that lies ahead.
        if past_seconds.is_nan() || past_seconds > TOLERANCE_SECONDS {
            return Step::Refuse(Rejection::Expired);
        }
        let warning = (past_seconds > 0.0).then_some(Warning::EndWithinTolerance);
        if license.offline && mode.is_development {
            return Step::Run { basis: Basis::Development, warning };
        }
        let was_asked = is_within(self.last_attempt_ms, RETRY_INTERVAL_MS, now_ms);
        match self.grace_until_ms() {
            Some(until_ms) if was_asked && !mode.force_online && now_ms <= until_ms => {
                Step::Run { basis: Basis::Grace { until_ms }, warning }
            }
            _ => Step::AskServer { license: Box::new(license), warning },
        }
    }

    /// What the server's answer, or the lack of one, means.
    pub fn on_reply(&mut self, reply: Reply<'_>, now_ms: i64) -> Verdict {
        match reply {
            Reply::Answer(answer) if answer.ok => self.on_good(answer, now_ms),
            Reply::Answer(answer) => self.on_refused(answer),
            Reply::ServerError => self.on_trouble(Rejection::ServerUnreachable, now_ms),
            Reply::NetworkError => self.on_trouble(Rejection::NetworkUnreachable, now_ms),
        }
    }

    /// The offset of an activation's answer.
    pub fn on_activated(&mut self, answer: &Answer, now_ms: i64) -> Verdict {
        self.on_good(answer, now_ms)
    }

    /// Until when an outage may last; `None` when there is none.
    pub fn grace_until_ms(&self) -> Option<i64> {
        self.offline_since_ms.map(|since| since.saturating_add(OFFLINE_GRACE_MS))
    }

    fn on_good(&mut self, answer: &Answer, now_ms: i64) -> Verdict {
        let change =
            answer.server_time.map(|time| self.skew.learn(time.seconds(), seconds(now_ms)));
        let warning = match change {
            Some(SkewChange::Ignored { offset_seconds }) => {
                Some(Warning::ClockFarOff { offset_seconds })
            }
            _ => None,
        };
        self.last_validation_ms = Some(now_ms);
        self.offline_since_ms = None;
        self.last_attempt_ms = None;
        Verdict { step: Step::Run { basis: Basis::Server, warning }, mark_revoked: false }
    }

    fn on_refused(&mut self, answer: &Answer) -> Verdict {
        self.last_validation_ms = None;
        self.last_attempt_ms = None;
        // A server that gives no reason knows only one.
        let is_revoked =
            answer.revoked.unwrap_or_else(|| answer.reason.is_none_or(RefusalReason::is_revoked));
        let rejection = match answer.reason {
            _ if is_revoked => Rejection::RevokedByServer,
            Some(RefusalReason::Expired) => Rejection::Expired,
            Some(RefusalReason::Suspended) => Rejection::Suspended,
            _ => Rejection::RefusedByServer(shown(answer.error.as_deref().unwrap_or("no reason"))),
        };
        Verdict { step: Step::Refuse(rejection), mark_revoked: is_revoked }
    }

    fn on_trouble(&mut self, rejection: Rejection, now_ms: i64) -> Verdict {
        let since_ms = *self.offline_since_ms.get_or_insert(now_ms);
        let until_ms = since_ms.saturating_add(OFFLINE_GRACE_MS);
        self.last_attempt_ms = Some(now_ms);
        let step = if now_ms <= until_ms {
            Step::Run { basis: Basis::Grace { until_ms }, warning: None }
        } else {
            self.last_validation_ms = None;
            Step::Refuse(rejection)
        };
        Verdict { step, mark_revoked: false }
    }
}

/// What a refused activation is: its text is the server's, bounded.
pub fn activation_rejection(reply: Reply<'_>) -> Rejection {
    match reply {
        Reply::Answer(answer) => {
            Rejection::ActivationFailed(shown(answer.error.as_deref().unwrap_or("no reason")))
        }
        Reply::ServerError | Reply::NetworkError => {
            Rejection::ActivationFailed("the activation server cannot be reached".to_owned())
        }
    }
}

fn believe(
    file: &Result<LicenseFile, LicenseFileError>,
    ring: &KeyRing,
) -> Result<License, Rejection> {
    let file = file.as_ref().map_err(|_| Rejection::InvalidSignature)?;
    file.verify(ring).map_err(|error| match error {
        SignatureError::UnsupportedKeyVersion(version) => Rejection::UnsupportedKeyVersion(version),
        SignatureError::BadSignature | SignatureError::Field(_) => Rejection::InvalidSignature,
    })
}

/// Whether `since` lies less than `interval_ms` back, and not ahead.
fn is_within(since_ms: Option<i64>, interval_ms: i64, now_ms: i64) -> bool {
    since_ms.is_some_and(|since| (0..interval_ms).contains(&now_ms.saturating_sub(since)))
}

fn seconds(unix_ms: i64) -> f64 {
    unix_ms as f64 / 1_000.0
}

/// A server's text, for people: bounded, without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}
