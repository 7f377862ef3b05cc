//! Owns one system call: `EXT4_IOC_SHUTDOWN` without a flush of the journal.
//!
//! To the file system this is a power cut. From that moment every write, sync and new file answers
//! `EIO`, nothing that was only in the page cache or in an open journal transaction reaches the
//! device any more, and the next mount replays the journal as after a real cut. What the device
//! itself had acknowledged stays: a disk that lies about its cache is not imitated.
//!
//! It is a crate because of its one `unsafe` block, which the workspace forbids everywhere else.
//! Whom to cut, and when, is left to the callers.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// Cuts the file system that `path` is on: any ext4 that is mounted (XFS knows the same call).
///
/// # Errors
/// Where it is another file system, or the process may not (`CAP_SYS_ADMIN`).
pub fn cut(path: &Path) -> io::Result<()> {
    let place = File::open(path)?;
    // SAFETY: the opcode is `_IOR('X', 125, __u32)` of the kernel's `ext4.h`, and the kernel reads
    // the four bytes of a `u32` that lives until the call returns; it writes nothing through it.
    #[expect(unsafe_code, reason = "no safe crate offers this call; the argument is one u32")]
    let done = unsafe { ioctl(&place, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
    Ok(done?)
}

/// `EXT4_IOC_SHUTDOWN`.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: the journal is not flushed first.
const NO_LOG_FLUSH: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_cut_says_so() {
        // procfs has no such call, and neither is a file that is missing one.
        assert!(cut(Path::new("/proc")).is_err());
        assert!(cut(Path::new("/nonexistent/place")).is_err());
    }

    #[test]
    fn the_number_is_that_of_the_kernel() {
        assert_eq!(SHUTDOWN, 0x8004_587d);
    }
}
