//! Segments of the audit log as files: verifying, exporting, and letting go of what is exported.
//!
//! A file is read line by line, so its length does not matter. An export is written under a name of
//! its own, read back by the same reader that `verify` uses while it comes, made durable, and only
//! then given the name that was asked for: a file of that name is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protocol::audit_segment::{
    EventHash, MAX_LINE_BYTES, SegmentError, SegmentLine, SegmentReader, VerifiedSegment,
};
use protocol::cloud::admin::{AuditList, PruneAuditRequest, PruneAuditResponse};
use protocol::offline::KeySet;
use protocol::wire::{Id64, UtcTime};
use serde_json::{Value, json};

use super::{ExportArgs, KeyOptions, PruneArgs, VerifyAuditArgs};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::files;
use crate::options::{GlobalOptions, OutputFormat};
use crate::report::{Part, Report};
use crate::session::Session;

/// Verifies a file under the keys of another, without a server.
pub(super) fn verify_with_file(args: &VerifyAuditArgs) -> Result<Report> {
    let (Some(file), Some(keys)) = (&args.file, &args.keys.keys) else {
        return Err(CliError::Usage("which file under which keys? give both".to_owned()));
    };
    Ok(found(file, &read(file, &read_keys(keys)?)?))
}

/// Verifies a file under the keys that are given, or those that a server publishes.
pub(super) async fn verify(
    file: &Path,
    keys: &KeyOptions,
    session: &Session<'_>,
) -> Result<Report> {
    Ok(found(file, &read(file, &believed(keys, session).await?)?))
}

/// Writes a part of the log to a file that is whole when it has its name.
pub(super) async fn export(
    args: ExportArgs,
    session: &Session<'_>,
    options: &GlobalOptions,
) -> Result<Report> {
    files::require_absent(&args.file)?;
    let keys = believed(&args.keys, session).await?;
    let partial = Partial::create(&args.file)?;
    let token = session.settings.operator_token()?;
    let request = Request::get(&["admin", "audit", "export"])
        .bearer(token)
        .query("from", args.from.map(|seq| seq.to_string()))
        .query("to", args.to.map(|seq| seq.to_string()));
    let mut stream = session.client.stream(&request).await?;
    let mut download = Download::new(partial, progress(options));
    while let Some(piece) = stream.next().await? {
        download.take(&piece)?;
    }
    let verified = download.end(&args.file, &keys)?;
    Ok(written(&args.file, &verified))
}

/// Lets go of the events that a verified file holds.
pub(super) async fn prune(args: PruneArgs, session: &Session<'_>) -> Result<Report> {
    let verified = read(&args.export, &believed(&args.keys, session).await?)?;
    let request = Request::get(&["admin", "audit"])
        .bearer(session.settings.operator_token()?)
        .query("limit", Some("1".to_owned()));
    let log: AuditList = session.client.send(&request).await?.json()?;
    let (upto_seq, hash) = what_may_go(&args.export, &verified, &log)?;
    let body = PruneAuditRequest { upto_seq: Some(Id64(upto_seq)), before: None, hash };
    let answer = session.post(&["admin", "audit", "prune"], &body, &args.mutation).await?;
    let pruned: PruneAuditResponse = answer.json()?;
    let (floor, head) = (pruned.floor.0, pruned.head.0);
    let json = json!({
        "floor": pruned.floor,
        "head": pruned.head,
        "events": upto_seq.saturating_sub(log.floor.0).to_string(),
    });
    let line = format!("events up to {floor} are gone; the log goes on to {head}");
    Ok(Report::done(json, vec![Part::Line(line)], vec![floor.to_string()]))
}

/// The last event that may go, with its hash: all that the file holds, but never the newest event
/// of the log, and nothing that the file does not hold.
fn what_may_go(
    path: &Path,
    verified: &VerifiedSegment,
    log: &AuditList,
) -> Result<(u64, EventHash)> {
    let header = &verified.header;
    let oldest = log.floor.0.saturating_add(1);
    if header.from > oldest {
        return Err(CliError::Usage(format!(
            "{} begins at event {}, and the log still has events from {oldest} on: export those \
             first",
            path.display(),
            header.from
        )));
    }
    let (upto, hash) = match header.to >= log.head.0 {
        // The hash of the one before the last stands in the last.
        true => (header.to.saturating_sub(1), verified.before_last),
        false => (header.to, verified.hash),
    };
    if upto < oldest {
        return Err(CliError::Usage(format!(
            "there is nothing to prune: the log has events {oldest} to {}, and the newest stays",
            log.head.0
        )));
    }
    Ok((upto, hash))
}

/// The keys of the file that was named, or those that a server publishes.
async fn believed(keys: &KeyOptions, session: &Session<'_>) -> Result<KeySet> {
    if let Some(path) = &keys.keys {
        return read_keys(path);
    }
    let request = Request::get(&[".well-known", "leasehold-offline-keys.json"]);
    key_set(session.client.send(&request).await?.body(), "the server")
}

fn read_keys(path: &Path) -> Result<KeySet> {
    key_set(&files::read(path, MAX_KEY_SET_BYTES)?, &path.display().to_string())
}

fn key_set(bytes: &[u8], from: &str) -> Result<KeySet> {
    KeySet::from_json(bytes).map_err(|source| CliError::KeySet { from: from.to_owned(), source })
}

fn unverifiable(path: &Path) -> impl Fn(SegmentError) -> CliError {
    let path = path.to_owned();
    move |source| CliError::Segment { path: path.clone(), source }
}

/// Reads a file to its end and believes it.
fn read(path: &Path, keys: &KeySet) -> Result<VerifiedSegment> {
    let cannot_read = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let mut input = BufReader::new(File::open(path).map_err(cannot_read)?);
    let mut lines = Lines::default();
    loop {
        let piece = input.fill_buf().map_err(cannot_read)?;
        if piece.is_empty() {
            return lines.finish(keys).map_err(unverifiable(path));
        }
        let taken = piece.len();
        lines.take(piece).map_err(unverifiable(path))?;
        input.consume(taken);
    }
}

/// Cuts pieces into lines and has them read.
#[derive(Default)]
struct Lines {
    reader: SegmentReader,
    rest: Vec<u8>,
    /// Number of the last event, once the header was read.
    events: Option<u64>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) -> std::result::Result<(), SegmentError> {
        let mut piece = piece;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(&piece[..end]);
            let line = std::mem::take(&mut self.rest);
            if let SegmentLine::Header(header) = self.reader.line(&line)? {
                self.events = Some(header.to - header.from + 1);
            }
            piece = &piece[end + 1..];
        }
        self.rest.extend_from_slice(piece);
        // No line is longer: the reader says what is wrong.
        if self.rest.len() > MAX_LINE_BYTES {
            self.reader.line(&self.rest)?;
        }
        Ok(())
    }

    fn finish(self, keys: &KeySet) -> std::result::Result<VerifiedSegment, SegmentError> {
        match self.rest.is_empty() {
            true => self.reader.finish(keys),
            false if self.reader.is_at_end() => Err(SegmentError::Trailing),
            false => Err(SegmentError::Truncated),
        }
    }
}

/// A file without its name yet; its name as a part goes with this value.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// Beside the file that it is to become.
    fn create(target: &Path) -> Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match created {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(CliError::File { action: "write", path, source }),
        }
    }

    /// Makes it durable and gives it its name.
    fn name(&mut self, target: &Path) -> Result<()> {
        let named = self.file.sync_all().and_then(|()| std::fs::hard_link(&self.path, target));
        let durable = named.and_then(|()| {
            let folder = match target.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            File::open(folder)?.sync_all()
        });
        durable.map_err(|source| CliError::File {
            action: "write",
            path: target.to_owned(),
            source,
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way: its name says what it is.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A segment on its way to a file, read back as it comes.
struct Download {
    partial: Partial,
    lines: Lines,
    bar: ProgressBar,
}

impl Download {
    fn new(partial: Partial, bar: ProgressBar) -> Self {
        Self { partial, lines: Lines::default(), bar }
    }

    fn take(&mut self, piece: &[u8]) -> Result<()> {
        let path = &self.partial.path;
        let written = self.partial.file.write_all(piece);
        written.map_err(|source| CliError::File { action: "write", path: path.clone(), source })?;
        self.lines.take(piece).map_err(unverifiable(path))?;
        if let Some(events) = self.lines.events {
            self.bar.set_length(events);
        }
        self.bar.set_position(self.lines.reader.count());
        Ok(())
    }

    fn end(self, target: &Path, keys: &KeySet) -> Result<VerifiedSegment> {
        let Self { mut partial, lines, bar } = self;
        bar.finish_and_clear();
        let verified = lines.finish(keys).map_err(unverifiable(&partial.path))?;
        partial.name(target)?;
        Ok(verified)
    }
}

/// A bar on a terminal, nothing for scripts.
fn progress(options: &GlobalOptions) -> ProgressBar {
    let is_shown =
        io::stderr().is_terminal() && !options.quiet && options.output == OutputFormat::Table;
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} events {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn facts(path: &Path, verified: &VerifiedSegment) -> Vec<(&'static str, String)> {
    let header = &verified.header;
    let issued_ms = i64::try_from(verified.issued_s).unwrap_or(i64::MAX).saturating_mul(1_000);
    vec![
        ("file", path.display().to_string()),
        ("cluster", format!("{} (epoch {})", header.cluster_id, header.epoch)),
        ("events", format!("{}: {} to {}", verified.count, header.from, header.to)),
        ("hash of the last", verified.hash.text()),
        ("signed", format!("{} by key {}", UtcTime::from_unix_ms(issued_ms), verified.key_id)),
    ]
}

fn as_json(path: &Path, verified: &VerifiedSegment) -> Value {
    let header = &verified.header;
    json!({
        "file": path.display().to_string(),
        "verified": true,
        "cluster_id": header.cluster_id,
        "epoch": header.epoch,
        "from": Id64(header.from),
        "to": Id64(header.to),
        "events": Id64(verified.count),
        "previous": header.previous,
        "hash": verified.hash,
        "key_id": verified.key_id,
    })
}

fn found(path: &Path, verified: &VerifiedSegment) -> Report {
    let line = "genuine and whole: every event follows from the one before".to_owned();
    let parts = vec![Part::Line(line), Part::Facts(facts(path, verified))];
    Report::done(as_json(path, verified), parts, vec![verified.hash.text()])
}

fn written(path: &Path, verified: &VerifiedSegment) -> Report {
    let next =
        format!("`leasehold audit prune --export {}` lets go of what it holds", path.display());
    let parts = vec![Part::Facts(facts(path, verified)), Part::Line(next)];
    Report::done(as_json(path, verified), parts, vec![path.display().to_string()])
}

const MAX_KEY_SET_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use protocol::audit_segment::SegmentHeader;

    use super::*;

    fn verified(from: u64, to: u64) -> VerifiedSegment {
        let previous = EventHash([1; 32]);
        let cluster_id = "lh-1".to_owned();
        VerifiedSegment {
            header: SegmentHeader { cluster_id, epoch: 1, from, to, previous },
            count: to - from + 1,
            hash: EventHash([3; 32]),
            before_last: EventHash([2; 32]),
            key_id: "k".to_owned(),
            issued_s: 0,
        }
    }

    /// A file with these events, a log with those: the last that goes, and whose hash is shown.
    #[test]
    fn what_goes_is_what_the_file_holds_but_never_the_newest() {
        let table = [
            ((1, 50), (0, 100), Some((50, 3))),
            ((1, 100), (0, 100), Some((99, 2))),
            ((1, 50), (20, 100), Some((50, 3))),
            ((21, 50), (20, 100), Some((50, 3))),
            ((22, 50), (20, 100), None),
            ((1, 20), (20, 100), None),
            ((100, 100), (99, 100), None),
        ];
        for ((from, to), (floor, head), want) in table {
            let log =
                AuditList { events: Vec::new(), floor: Id64(floor), head: Id64(head), next: None };
            let goes = what_may_go(Path::new("a.jsonl"), &verified(from, to), &log);
            let goes = goes.ok().map(|(upto, hash)| (upto, hash.0[0]));
            assert_eq!(goes, want, "{from}..={to} of {floor}..={head}");
        }
    }

    #[test]
    fn a_partial_file_never_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("audit.jsonl");
        drop(Partial::create(&target).ok().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut partial = Partial::create(&target).ok().unwrap();
        partial.file.write_all(b"whole").unwrap();
        std::fs::write(&target, b"another").unwrap();
        assert!(partial.name(&target).is_err());
        std::fs::remove_file(&target).unwrap();
        assert!(partial.name(&target).is_ok());
        drop(partial);
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn lines_are_cut_wherever_the_pieces_end() {
        let mut lines = Lines::default();
        assert!(lines.take(b"").is_ok());
        assert!(lines.take(b"{\"type\":").is_ok());
        assert_eq!(lines.take(b"1}\n"), Err(SegmentError::Line { line: 1 }));
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        assert_eq!(Lines::default().take(&long), Err(SegmentError::Line { line: 1 }));
    }
}
