//! Tests of `storage` from outside: crashes, damage, random histories, the real filesystem.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod log;
