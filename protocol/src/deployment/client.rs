//! What a program does with each answer: the document's response map as a pure state machine.
//!
//! ```text
//!                    ┌──────── 403, 404, 400 at startup; nothing reached and no grace
//!                    ▼
//! Unconfigured ─▶ Setup ─▶ Activated ◀─▶ Grace ─▶ Stopped
//!                              │  401: activate again    ▲
//!                              ├─▶ Waiting (409) ────────┤ grace is over
//!                              └── 403, 404, 400 ────────┘
//! ```
//!
//! The status decides first, the code after it. *Grace* is for servers that cannot be reached or
//! cannot decide (transport, 408, 429, 5xx), and counts from the last success, which the caller
//! stores: a restart gives none of it back. A refusal is never graceful: 403 stops. 409 means that
//! another cluster holds the slot: this one waits and does not run; at startup it gives up into
//! setup after the grace's length, at run time it stops then.
//!
//! Times are Unix milliseconds, from a clock that was held against its high-water mark
//! ([`crate::offline::HighWater`]). What it leaves to others: calling, storing, timers (SDKs).

use serde::{Deserialize, Serialize};

/// Where a program stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No key or no cluster id.
    Unconfigured,
    /// Somebody must set it up.
    Setup,
    /// Configured; the first answer is awaited.
    Starting,
    /// The last call succeeded.
    Activated,
    /// The last success is within the grace, and no server can be reached.
    Grace,
    /// Another cluster holds the slot.
    Waiting,
    /// It must not run.
    Stopped,
}

/// Which call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `/v1/license/activate`, the runtime call.
    Activate,
    /// `/v1/license/heartbeat`
    Heartbeat,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// No answer: no connection, a timeout, a body that is no answer.
    Unreachable,
    /// An answer.
    Status {
        /// The HTTP status.
        status: u16,
        /// `error` of the body, where there is one.
        code: Option<&'a str>,
        /// `Retry-After`, where there is one.
        retry_after_seconds: Option<u64>,
    },
}

/// Why a program must not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// 403 `license_suspended`
    Suspended,
    /// 403 `license_cancelled`
    Cancelled,
    /// 403 `license_expired`
    Expired,
    /// 403 `node_limit_exceeded`
    NodeLimitExceeded,
    /// 404
    UnknownKey,
    /// Any other refusal.
    Refused,
    /// Another cluster holds the slot.
    SlotInUse,
    /// No server was reached within the grace, or there is none.
    GraceExceeded,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Run; call again after this time.
    Continue {
        /// Milliseconds.
        heartbeat_in_ms: i64,
    },
    /// Activate, after this time. Whether to run meanwhile, [`Client::may_run`] says.
    Activate {
        /// Milliseconds.
        after_ms: i64,
    },
    /// Send the same call again, after this time.
    Retry {
        /// Milliseconds.
        after_ms: i64,
    },
    /// Enter setup mode.
    EnterSetup(StopReason),
    /// Stop working.
    Stop(StopReason),
}

/// What outlives the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    /// When a call last succeeded.
    pub last_success_ms: Option<i64>,
    /// The highest token version seen.
    pub token_version: u64,
}

/// The rules, for one process.
#[derive(Debug, Clone)]
pub struct Client {
    state: State,
    stored: Stored,
    grace_ms: i64,
    heartbeat_interval_ms: i64,
    /// Whether a call succeeded since the process began.
    has_run: bool,
    /// Calls that failed since the last success.
    failures: u32,
    /// When the slot was first refused since the last success.
    slot_refused_ms: Option<i64>,
}

impl Client {
    /// The state of a process that has just begun.
    pub fn start(
        is_configured: bool,
        stored: Stored,
        grace_ms: i64,
        heartbeat_interval_ms: i64,
    ) -> Self {
        let state = if is_configured { State::Starting } else { State::Unconfigured };
        let has_run = false;
        let (failures, slot_refused_ms) = (0, None);
        Self { state, stored, grace_ms, heartbeat_interval_ms, has_run, failures, slot_refused_ms }
    }

    /// Where the program stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What is to be stored.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// Whether the program may work at `now_ms`.
    pub fn may_run(&self, now_ms: i64) -> bool {
        match self.state {
            // A program that slept through its heartbeats is not activated any more.
            State::Activated => self.stored.last_success_ms.is_some_and(|last| {
                let silence_ms = self.grace_ms.max(self.heartbeat_interval_ms.saturating_mul(2));
                now_ms.saturating_sub(last) <= silence_ms
            }),
            State::Grace => self.is_within_grace(now_ms),
            _ => false,
        }
    }

    /// When the grace ends; `None` without a last success.
    pub fn grace_ends_ms(&self) -> Option<i64> {
        self.stored.last_success_ms.map(|last| last.saturating_add(self.grace_ms))
    }

    /// The setup is done; activate.
    pub fn on_configured(&mut self) -> Decision {
        self.state = State::Starting;
        self.failures = 0;
        Decision::Activate { after_ms: 0 }
    }

    /// A call succeeded (200) and told its token version.
    pub fn on_success(&mut self, token_version: u64, now_ms: i64) -> Decision {
        self.state = State::Activated;
        self.has_run = true;
        self.failures = 0;
        self.slot_refused_ms = None;
        self.stored.last_success_ms = Some(now_ms);
        self.stored.token_version = self.stored.token_version.max(token_version);
        Decision::Continue { heartbeat_in_ms: self.heartbeat_interval_ms }
    }

    /// A call did not succeed. `random` is 64 random bits for the backoff.
    pub fn on_failure(
        &mut self,
        call: Call,
        reply: Reply<'_>,
        now_ms: i64,
        random: u64,
    ) -> Decision {
        self.failures = self.failures.saturating_add(1);
        let Reply::Status { status, code, retry_after_seconds } = reply else {
            return self.on_trouble(call, now_ms, backoff_ms(self.failures, random, None));
        };
        let delay_ms = backoff_ms(self.failures, random, retry_after_seconds);
        match status {
            401 => self.on_stale_token(call, now_ms, delay_ms),
            400 | 403 | 404 | 422 => self.refuse(stop_reason(status, code)),
            409 => self.on_slot_in_use(now_ms, delay_ms),
            _ => self.on_trouble(call, now_ms, delay_ms),
        }
    }

    /// Time passed without a call: ends a grace that is over.
    pub fn on_time(&mut self, now_ms: i64) -> Option<Decision> {
        (self.state == State::Grace && !self.is_within_grace(now_ms))
            .then(|| self.refuse(StopReason::GraceExceeded))
    }

    /// The token is of an older version, or over: fetch a fresh one. The first time at once; a
    /// server that keeps refusing is called no faster than one in trouble, and the grace runs.
    fn on_stale_token(&mut self, call: Call, now_ms: i64, delay_ms: i64) -> Decision {
        if call == Call::Heartbeat && self.failures == 1 {
            return Decision::Activate { after_ms: 0 };
        }
        match self.on_trouble(call, now_ms, delay_ms) {
            Decision::Retry { after_ms } => Decision::Activate { after_ms },
            decision => decision,
        }
    }

    fn on_slot_in_use(&mut self, now_ms: i64, delay_ms: i64) -> Decision {
        let since_ms = *self.slot_refused_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) > self.grace_ms {
            return self.refuse(StopReason::SlotInUse);
        }
        self.state = State::Waiting;
        Decision::Activate { after_ms: delay_ms }
    }

    fn on_trouble(&mut self, call: Call, now_ms: i64, delay_ms: i64) -> Decision {
        if self.state == State::Waiting {
            // Nobody said since that the slot is ours.
            return self.on_slot_in_use(now_ms, delay_ms);
        }
        if !self.is_within_grace(now_ms) {
            return self.refuse(StopReason::GraceExceeded);
        }
        self.state = State::Grace;
        let left_ms = self.grace_ends_ms().map_or(0, |end| end.saturating_sub(now_ms));
        let after_ms = delay_ms.min(left_ms.max(0));
        match call {
            Call::Activate => Decision::Activate { after_ms },
            Call::Heartbeat => Decision::Retry { after_ms },
        }
    }

    /// At startup somebody may set it up anew; a program that ran must stop.
    fn refuse(&mut self, reason: StopReason) -> Decision {
        if self.has_run || self.state == State::Grace {
            self.state = State::Stopped;
            Decision::Stop(reason)
        } else {
            self.state = State::Setup;
            Decision::EnterSetup(reason)
        }
    }

    fn is_within_grace(&self, now_ms: i64) -> bool {
        self.grace_ends_ms().is_some_and(|end| now_ms <= end)
    }
}

/// Milliseconds to wait after so many failures in a row: a random part of 5 s doubled each time, at
/// most 15 minutes, and at least what the server asked for.
pub fn backoff_ms(failures: u32, random: u64, retry_after_seconds: Option<u64>) -> i64 {
    let doublings = failures.saturating_sub(1).min(16);
    let most_ms = BACKOFF_CAP_MS.min(BACKOFF_BASE_MS << doublings);
    let jittered_ms = i64::try_from(random % most_ms.unsigned_abs()).unwrap_or(0) + 1;
    let asked_ms = retry_after_seconds.map_or(0, |seconds| {
        i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000).min(MAX_RETRY_AFTER_MS)
    });
    jittered_ms.max(asked_ms)
}

fn stop_reason(status: u16, code: Option<&str>) -> StopReason {
    match (status, code) {
        (403, Some("license_suspended")) => StopReason::Suspended,
        (403, Some("license_cancelled")) => StopReason::Cancelled,
        (403, Some("license_expired")) => StopReason::Expired,
        (403, Some("node_limit_exceeded")) => StopReason::NodeLimitExceeded,
        (404, _) => StopReason::UnknownKey,
        _ => StopReason::Refused,
    }
}

const BACKOFF_BASE_MS: i64 = 5_000;
const BACKOFF_CAP_MS: i64 = 900_000;
/// A server cannot silence a client for longer than an hour.
const MAX_RETRY_AFTER_MS: i64 = 3_600_000;
