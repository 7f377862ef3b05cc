//! Tests of `storage` from outside: crashes, damage, random histories, the real filesystem.

mod log;
