//! Where a reader of the audit log is: the number of an event, and the epoch that it was seen in.
//!
//! ```text
//! 3-4712        event 4712, as it was in epoch 3
//! 4712          the same in the epoch now
//! ```
//!
//! A cluster that was restored from a snapshot uses the numbers behind it again, for other events.
//! Who goes on behind an event of another epoch would skip some and not know: the answer to that is
//! 410, and the reader begins anew.

use std::fmt;

use http::StatusCode;
use protocol::cloud::problem::Problem;

use crate::failure::Failure;
use crate::view::Epoch;

/// An event, as ids of the stream and cursors of pages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventId {
    /// `None`: the epoch now.
    epoch: Option<u32>,
    seq: u64,
}

impl EventId {
    /// An event of an epoch.
    pub(super) fn new(epoch: &Epoch, seq: u64) -> Self {
        Self { epoch: Some(epoch.number), seq }
    }

    /// As [`EventId`] is shown, or a number alone.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once('-') {
            None => Some(Self { epoch: None, seq: text.parse().ok()? }),
            Some((epoch, seq)) => {
                Some(Self { epoch: Some(epoch.parse().ok()?), seq: seq.parse().ok()? })
            }
        }
    }

    /// Its number, if it is one of this epoch.
    ///
    /// # Errors
    /// 410 `epoch_changed`.
    pub(super) fn of_epoch(self, now: &Epoch) -> Result<u64, Failure> {
        if self.epoch.is_none_or(|epoch| epoch == now.number) {
            return Ok(self.seq);
        }
        let problem = Problem::new(
            StatusCode::GONE.as_u16(),
            "epoch_changed",
            "The event is of another epoch: the cluster was restored or recovered since.",
        );
        let now = now.number;
        let advice = format!("the epoch now is {now}; begin anew, without an id or a cursor");
        Err(problem.detail(advice).into())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{epoch}-{}", self.seq),
            None => write!(f, "{}", self.seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_of_an_epoch() {
        let now = Epoch::new(3, 9);
        for (text, want) in [
            ("3-4712", Some(Ok(4712))),
            ("4712", Some(Ok(4712))),
            ("0", Some(Ok(0))),
            ("2-4712", Some(Err(410))),
            ("4-1", Some(Err(410))),
            ("", None),
            ("-4712", None),
            ("3-", None),
            ("3-4-5", None),
            ("yesterday", None),
        ] {
            let id = EventId::parse(text);
            let found = id.map(|id| id.of_epoch(&now).map_err(|error| error.status().as_u16()));
            assert_eq!(found, want, "{text}");
            assert!(id.is_none_or(|id| id.to_string() == text), "{text}");
        }
        assert_eq!(EventId::new(&now, 5).to_string(), "3-5");
    }
}
