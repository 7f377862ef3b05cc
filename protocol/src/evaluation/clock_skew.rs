//! The offset between the server's clock and the client's, learnt from answers.
//!
//! The first offset counts as it is; later ones are blended in, 0.7 of the old and 0.3 of the new.
//! One of more than six hours is not learnt: such a clock is wrong and not merely late, and the
//! program is told.

use serde::{Deserialize, Serialize};

/// The largest offset that is learnt, and how late an end may be met: six hours.
pub const TOLERANCE_SECONDS: f64 = 21_600.0;

/// Server minus client, in seconds. Stored by the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockSkew {
    offset_seconds: Option<f64>,
}

/// What became of an offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SkewChange {
    /// It was learnt.
    Learnt,
    /// It is too large and was not; the program should warn.
    Ignored {
        /// Server minus client.
        offset_seconds: f64,
    },
}

impl ClockSkew {
    /// Learns from an answer: the server's clock and the client's, in Unix seconds.
    pub fn learn(&mut self, server_seconds: f64, local_seconds: f64) -> SkewChange {
        let offset_seconds = server_seconds - local_seconds;
        if !offset_seconds.is_finite() || offset_seconds.abs() > TOLERANCE_SECONDS {
            return SkewChange::Ignored { offset_seconds };
        }
        self.offset_seconds = Some(match self.offset_seconds {
            Some(old) if old.is_finite() => 0.7 * old + 0.3 * offset_seconds,
            _ => offset_seconds,
        });
        SkewChange::Learnt
    }

    /// The client's time corrected, in Unix seconds. A stored offset that could not have been
    /// learnt corrects nothing.
    pub fn corrected(self, local_seconds: f64) -> f64 {
        let learnt = self.offset_seconds.filter(|offset| offset.abs() <= TOLERANCE_SECONDS);
        local_seconds + learnt.unwrap_or(0.0)
    }

    /// Server minus client, in seconds; 0 before the first answer.
    pub fn offset_seconds(self) -> f64 {
        self.offset_seconds.unwrap_or(0.0)
    }
}
