//! What a run stands on: machine, binary, versions, dates.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jepsen::machine::commit;
use jiff::Timestamp;
use procfs::process::MountInfo;
use procfs::{Current, Meminfo};
use sha2::{Digest, Sha256};
use storage::seam::{Clock, RealClock};

use crate::results::Machine;

/// This machine; `dir` is where data will be.
pub(crate) fn machine(dir: &Path) -> Result<Machine> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let processor = processors.lines().find_map(|line| line.strip_prefix("model name"));
    Ok(Machine {
        cores: std::thread::available_parallelism().context("how many cores?")?.get(),
        processor: processor.unwrap_or_default().trim_matches([' ', '\t', ':']).to_owned(),
        memory_mb: Meminfo::current()?.mem_total / (1 << 20),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        file_system: file_system(dir)?,
    })
}

/// Kind of the file system that a directory is on.
fn file_system(dir: &Path) -> Result<String> {
    Ok(mount(dir)?.fs_type)
}

fn mount(dir: &Path) -> Result<MountInfo> {
    let dir = dir.canonicalize().with_context(|| format!("no {}", dir.display()))?;
    let mounts = procfs::process::Process::myself()?.mountinfo()?;
    let below = mounts.into_iter().filter(|mount| dir.starts_with(&mount.mount_point));
    // Of two mounts at one place the later is on top.
    let longest = below.max_by_key(|mount| mount.mount_point.as_os_str().len());
    longest.context("a directory below no mount")
}

/// The block device below a directory.
///
/// What reached it is counted there and not at the processes: theirs counts whole folios as they
/// are dirtied, which was 262 KB for each sync of a log record of 200 bytes.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// The kernel's statistics; `None` where the file system has no device of its own.
    stat: Option<PathBuf>,
}

impl Device {
    /// The one that a directory is on.
    pub(crate) fn below(dir: &Path) -> Result<Self> {
        let stat = Path::new("/sys/dev/block").join(mount(dir)?.majmin).join("stat");
        Ok(Self { stat: stat.exists().then_some(stat) })
    }

    /// Bytes written to it since the machine started, whoever wrote them; 0 without a device.
    pub(crate) fn written_bytes(&self) -> Result<u64> {
        let Some(path) = &self.stat else { return Ok(0) };
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        // Documentation/block/stat.rst: the seventh number is sectors written, 512 bytes each.
        let sectors = text.split_whitespace().nth(6).and_then(|number| number.parse::<u64>().ok());
        Ok(sectors.with_context(|| format!("{}: {text}", path.display()))? * 512)
    }
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The binary under test, and the commit of the sources.
pub(crate) fn under_test(named: Option<&Path>) -> Result<(PathBuf, String)> {
    let binary = jepsen::machine::binary(named)?;
    let commit = commit(&binary);
    Ok((binary, commit))
}

/// What time it is, UTC, to the second.
pub(crate) fn now() -> String {
    let now = Timestamp::from_millisecond(RealClock::new().wall_ms()).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

const PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), want);
    }

    #[test]
    fn this_machine_is_described() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path()).unwrap();
        assert!(machine.cores > 0 && machine.memory_mb > 0, "{machine:?}");
        assert!(!machine.file_system.is_empty(), "{machine:?}");
    }

    #[test]
    fn a_device_counts_what_is_synced_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path()).unwrap();
        let before = device.written_bytes().unwrap();
        let file = File::create(dir.path().join("file")).unwrap();
        std::io::Write::write_all(&mut &file, &[7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let written = device.written_bytes().unwrap() - before;
        assert!(device.stat.is_none() || written >= 1 << 20, "{written} by {device:?}");
    }
}
