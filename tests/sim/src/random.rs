//! Where the process gets its randomness: from the machine, or, once [`seed`] was called, from a
//! number.
//!
//! std seeds its hash maps and tokio its `select!`, its watch channels and its schedulers from
//! `getrandom`, and neither can be told otherwise (tokio's way needs a build of its own). std looks
//! the function up as a weak symbol so that a program may stand in for it ("weak!" in
//! `std::sys::random::linux`); this is that stand-in. It serves the whole process, so one process
//! runs one seed.
//!
//! The one place in this workspace with unsafe code; what it promises is written beside each use.

use std::sync::Mutex;

use storage::testing::SeededEntropy;

static SOURCE: Mutex<Option<SeededEntropy>> = Mutex::new(None);

/// From now on everything in this process that asks the machine for randomness gets what follows
/// from `seed`.
pub fn seed(seed: u64) {
    if let Ok(mut source) = SOURCE.lock() {
        *source = Some(SeededEntropy::new(seed));
    }
}

/// Fills a buffer, as `getrandom(2)` would.
fn fill(buffer: &mut [u8]) -> usize {
    if let Ok(source) = SOURCE.lock()
        && let Some(source) = &*source
    {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&source.next().to_le_bytes()[..chunk.len()]);
        }
        return buffer.len();
    }
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())
        {
            Ok(more) => filled += more,
            Err(_) => break,
        }
    }
    filled
}

/// `getrandom(2)` for everything that is linked into this program.
///
/// # Safety
/// `buffer` points to `len` bytes that may be written, as the function of that name requires.
#[expect(unsafe_code, reason = "the C function of this name can be given in no other way")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    if buffer.is_null() {
        return -1;
    }
    // SAFETY: the caller owns `len` writable bytes there for as long as this call takes; they are
    // zeroed first, so that no uninitialised byte is ever read.
    let buffer = unsafe {
        buffer.write_bytes(0, len);
        std::slice::from_raw_parts_mut(buffer, len)
    };
    isize::try_from(fill(buffer)).unwrap_or(-1)
}
