//! One input to every decoder of the `deployment` protocol.
#![no_main]

use std::sync::LazyLock;

use leasehold_tests::decoders::{Decoder, Family, family, fuzz};
use libfuzzer_sys::fuzz_target;

static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(|| family(Family::Deployment));

fuzz_target!(|bytes: &[u8]| fuzz(&DECODERS, bytes));
