//! System calls as `strace` wrote them down, and what their order says of answers.
//!
//! A line is `PID BEGIN name(ARGUMENTS) = RESULT <TIME>`; where another thread's call came between,
//! it is two, `… <unfinished ...>` and `PID END <... name resumed>… = RESULT <TIME>`. Times are in
//! Unix seconds with nine digits.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// One call, in nanoseconds of Unix time.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin_ns: u64,
    end_ns: u64,
}

/// What one process did, as far as it is judged.
#[derive(Debug, Default)]
pub(crate) struct Traced {
    /// When each command was written into the log: by its marker, then by file.
    written: BTreeMap<String, Vec<(String, Span)>>,
    /// Syncs of each file.
    synced: BTreeMap<String, Vec<Span>>,
    /// Begin of the first write after each request on the client's socket; the first are those of
    /// the handshake.
    answered_ns: Vec<u64>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Answers that were looked at.
    pub(crate) answers: usize,
    /// Those whose command even the last process had synced before.
    pub(crate) by_all: usize,
    /// Those that a majority had not: marker, and how many had.
    pub(crate) early: Vec<(String, usize)>,
}

impl Traced {
    /// Reads a trace; `port` is that of the client, markers begin with `marker`.
    pub(crate) fn read(text: &str, port: u16, marker: &str) -> Result<Self> {
        let mut read = Self::default();
        let mut begun: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        let mut socket: Option<String> = None;
        let mut asked_bytes = 0;
        let port = format!("sin_port=htons({port})");
        for line in text.lines() {
            let Some((pid, stamp_ns, rest)) = split(line) else { continue };
            if let Some(call) = rest.strip_suffix(" <unfinished ...>") {
                begun.insert(pid, (stamp_ns, call));
                if let Some(socket) = &socket
                    && is_sent(call, socket)
                {
                    read.answer(&mut asked_bytes, stamp_ns);
                }
                continue;
            }
            let (span, head, tail) = if rest.starts_with("<... ") {
                let Some((begin_ns, head)) = begun.remove(pid) else { continue };
                (Span { begin_ns, end_ns: stamp_ns }, head, rest)
            } else {
                let took_ns = took_ns(rest).with_context(|| format!("no time: {line:.200}"))?;
                if let Some(socket) = &socket
                    && is_sent(rest, socket)
                {
                    read.answer(&mut asked_bytes, stamp_ns);
                }
                (Span { begin_ns: stamp_ns, end_ns: stamp_ns + took_ns }, rest, rest)
            };
            let name = head.split('(').next().unwrap_or_default();
            match name {
                "accept4" if tail.contains(&port) => socket = socket_in(result_of(tail)),
                "recvfrom" | "read" => {
                    let is_ours = socket.as_ref().is_some_and(|it| first_file(head) == Some(it));
                    if is_ours {
                        asked_bytes += result_of(tail).parse::<u64>().unwrap_or(0);
                    }
                }
                "pwrite64" => read.write(head, span, marker)?,
                "fdatasync" if result_of(tail) == "0" => {
                    let file = first_file(head).context("a sync of no file")?;
                    read.synced.entry(file.to_owned()).or_default().push(span);
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Something goes out on the client's socket: an answer, when enough for a request came before.
    fn answer(&mut self, asked_bytes: &mut u64, begin_ns: u64) {
        if std::mem::take(asked_bytes) >= LEAST_REQUEST_BYTES {
            self.answered_ns.push(begin_ns);
        }
    }

    fn write(&mut self, call: &str, span: Span, marker: &str) -> Result<()> {
        let file = first_file(call).context("a write to no file")?;
        if !file.contains("/log/segment-") {
            return Ok(());
        }
        let found: BTreeSet<&str> = call
            .match_indices(marker)
            .filter_map(|(at, _)| Some(&call[at..=at + call[at..].find('@')?]))
            .collect();
        for name in found {
            self.written.entry(name.to_owned()).or_default().push((file.to_owned(), span));
        }
        Ok(())
    }

    /// When this process first had a command on its disk for good.
    fn durable_ns(&self, marker: &str) -> Option<u64> {
        let ends = self.written.get(marker)?.iter().filter_map(|(file, write)| {
            let syncs = self.synced.get(file)?.iter();
            syncs.filter(|sync| sync.begin_ns >= write.end_ns).map(|sync| sync.end_ns).min()
        });
        ends.min()
    }
}

/// Compares the last `requests` answers of every process with what the processes had synced when
/// each began; `marker` names the n-th of a client, whose number is that of its node among the
/// `processes`.
pub(crate) fn answers_that_came_too_early(
    processes: &[Traced],
    requests: usize,
    marker: impl Fn(usize, usize) -> String,
) -> Result<Judged> {
    let mut judged = Judged::default();
    for (node, process) in processes.iter().enumerate() {
        let Some(others) = process.answered_ns.len().checked_sub(requests) else { continue };
        for (nth, answered_ns) in process.answered_ns[others..].iter().enumerate() {
            let name = marker(node, nth);
            let durable: Vec<u64> =
                processes.iter().filter_map(|it| it.durable_ns(&name)).collect();
            ensure!(!durable.is_empty(), "nobody has written {name}");
            let before = durable.iter().filter(|durable_ns| *durable_ns <= answered_ns).count();
            judged.answers += 1;
            judged.by_all += usize::from(before == processes.len());
            if before * 2 <= processes.len() {
                judged.early.push((name, before));
            }
        }
    }
    Ok(judged)
}

/// `PID SECONDS.NANOSECONDS REST`.
fn split(line: &str) -> Option<(&str, u64, &str)> {
    let (pid, rest) = line.split_once(' ')?;
    let (stamp, rest) = rest.trim_start().split_once(' ')?;
    let (seconds, fraction) = stamp.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let fraction: u64 = fraction.parse().ok()?;
    Some((pid, seconds * 1_000_000_000 + fraction, rest))
}

/// The `<0.000012345>` at the end of a call that was not interrupted.
fn took_ns(call: &str) -> Option<u64> {
    if call.starts_with("+++") || call.starts_with("---") {
        return Some(0);
    }
    let (_, time) = call.strip_suffix('>')?.rsplit_once('<')?;
    let (seconds, fraction) = time.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + fraction.parse::<u64>().ok()?)
}

/// What a call gave: `12`, `0`, `6<socket:[1234]>`, `-1`.
fn result_of(call: &str) -> &str {
    let result = call.rsplit_once(") = ").map_or("", |(_, result)| result);
    result.split(' ').next().unwrap_or_default()
}

/// The file of a call's first argument: `9</a/path>` or `6<socket:[1234]>`.
fn first_file(call: &str) -> Option<&str> {
    let (_, rest) = call.split_once('<')?;
    Some(rest.split_once('>')?.0)
}

/// The socket in a result: `6<socket:[1234]>`.
fn socket_in(result: &str) -> Option<String> {
    let (_, rest) = result.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

/// Whether a call sends something on a socket.
fn is_sent(call: &str, socket: &str) -> bool {
    let name = call.split('(').next().unwrap_or_default();
    matches!(name, "sendto" | "write" | "writev") && first_file(call) == Some(socket)
}

/// No request is shorter; what ends a handshake or a connection is.
const LEAST_REQUEST_BYTES: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that accepts, is asked, writes, syncs and answers, at these nanoseconds.
    fn trace(written: u64, synced: u64, answered: u64) -> String {
        let lines = [
            (1, "accept4(4<socket:[1]>, {sin_port=htons(5)}) = 6<socket:[2]> <0.000000001>"),
            (2, "sendto(6<socket:[2]>, \"hello\", 5, 0, NULL, 0) = 5 <0.000000001>"),
            (3, "recvfrom(6<socket:[2]>, \"\\27\\3\", 900, 0, NULL, NULL) = 900 <0.000000001>"),
            (written, "pwrite64(9</d/log/segment-1.log>, \"traced-0-00000@\", 9 <unfinished ...>"),
            (written + 5, "<... pwrite64 resumed>) = 9 <0.000000005>"),
            (synced, "fdatasync(9</d/log/segment-1.log>) = 0 <0.000000010>"),
            (answered, "sendto(6<socket:[2]>, \"\\27\\3\", 9, 0, NULL, 0) = 9 <0.000000001>"),
        ];
        let mut lines: Vec<String> =
            lines.iter().map(|(at, call)| format!("7 1.{at:09} {call}")).collect();
        lines.sort();
        lines.join("\n")
    }

    /// Client 0 is answered by the first process at 100.
    fn check(others: [(u64, u64); 3], early: usize) {
        let processes = others.map(|(written, synced)| {
            Traced::read(&trace(written, synced, 100), 5, "traced-").unwrap()
        });
        let [first, second, third] = processes;
        let silent = |it: Traced| Traced { answered_ns: Vec::new(), ..it };
        let processes = [first, silent(second), silent(third)];
        let judged = answers_that_came_too_early(&processes, 1, |client, nth| {
            format!("traced-{client}-{nth:05}@")
        })
        .unwrap();
        assert_eq!((judged.answers, judged.early.len()), (1, early), "{others:?}: {judged:?}");
    }

    #[test]
    fn an_answer_waits_for_the_end_of_syncs_that_began_after_the_write() {
        check([(10, 20), (30, 40), (110, 120)], 0);
        // A majority is not one.
        check([(10, 20), (90, 120), (110, 120)], 1);
        // The second sync ends at 101, after the answer began.
        check([(10, 20), (30, 91), (110, 120)], 1);
        check([(10, 20), (30, 90), (110, 120)], 0);
        // A sync that began before the write had ended says nothing about it.
        check([(10, 14), (30, 34), (50, 60)], 1);
    }
}
