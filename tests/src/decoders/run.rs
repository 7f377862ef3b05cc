//! The mutation loop: so many seconds, divided over all decoders, on two threads.
//!
//! Every input follows from the seed, the decoder's name and the iteration, so a failure is
//! repeated without what came before it. The loop's length is its budget; nothing is judged by
//! time but an input that a decoder does not come back from. For each decoder it demands that
//! some inputs were accepted and some refused: one that refuses everything was tested at its first
//! gate only.
//!
//! What it leaves to others: counting memory (`mutation/main.rs` brings the meter, since a counting
//! allocator is a choice of the whole program), which seed (the caller).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Result;
use storage::seam::{Clock, RealClock};

use super::mutate::{Dice, mutate};
use super::{Decoder, Origin, Verdict};

/// Runs a piece of work on this thread and tells the most bytes it held at one time.
pub type Meter = fn(&mut dyn FnMut()) -> u64;

/// How long, from which seed, with which meter.
#[derive(Clone, Copy)]
pub struct Plan {
    /// For all decoders together.
    pub seconds: u64,
    /// What every choice follows from.
    pub seed: u64,
    /// Measures memory.
    pub meter: Meter,
    /// Whether each input is told before it is tried.
    pub trace: bool,
}

/// What one decoder did.
#[derive(Debug, Default)]
pub struct Report {
    /// Its name.
    pub decoder: &'static str,
    /// Inputs that it was given, the examples among them.
    pub inputs: u64,
    /// How many it took.
    pub accepted: u64,
    /// How many it refused.
    pub refused: u64,
    /// The most bytes that one input made it hold.
    pub peak_bytes: u64,
    /// The first input that broke something; the decoder is left alone after it.
    pub failure: Option<Failure>,
}

impl Report {
    /// Nothing broke, and both ends of the decoder were reached.
    pub fn is_good(&self) -> bool {
        self.failure.is_none() && self.accepted > 0 && self.refused > 0
    }
}

/// An input that broke something.
#[derive(Debug)]
pub struct Failure {
    /// Which iteration made it; examples come before the first and have none.
    pub iteration: Option<u64>,
    /// As found or mended.
    pub origin: Origin,
    /// The input.
    pub input: Vec<u8>,
    /// A panic's message, a law, or a bound.
    pub what: String,
}

/// One input and what it did, for repeating.
#[derive(Debug)]
pub struct Tried {
    /// Accepted or refused; `Err` says what broke.
    pub verdict: Result<Verdict, String>,
    /// The most bytes held.
    pub peak_bytes: u64,
}

/// The input of an iteration of a decoder.
pub fn input_of(decoder: &Decoder, seed: u64, iteration: u64) -> (Vec<u8>, Origin) {
    let dice = Dice::of(seed, decoder.name(), iteration);
    let changed = mutate(&dice, decoder.examples());
    let wants_mending = dice.one_in(2);
    match wants_mending.then(|| decoder.mend(&changed)).flatten() {
        Some(mended) => (mended, Origin::Mended),
        None => (changed, Origin::AsFound),
    }
}

/// Gives a decoder one input; a panic is caught and told.
pub fn try_input(decoder: &Decoder, input: &[u8], origin: Origin, meter: Meter) -> Tried {
    let mut outcome = Err("the meter did not run the check".to_owned());
    let peak_bytes = meter(&mut || {
        let checked = catch_unwind(AssertUnwindSafe(|| decoder.check(input, origin)));
        outcome = match checked {
            Ok(result) => result.map_err(|error| format!("{error:#}")),
            Err(_) => Err(PANIC.with_borrow_mut(std::mem::take)),
        };
    });
    if outcome.is_ok() && peak_bytes > MAX_PEAK_BYTES {
        outcome = Err(format!("held {peak_bytes} bytes, at most {MAX_PEAK_BYTES}"));
    }
    Tried { verdict: outcome, peak_bytes }
}

/// Keeps a panic's message for [`try_input`] instead of printing it.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.set(info.to_string())));
}

/// Runs the loop. Reports come in order of the decoders.
///
/// A decoder that does not come back from an input ends the process, after saying which.
pub fn run(decoders: &[Decoder], plan: Plan) -> Vec<Report> {
    let clock = RealClock::new();
    let share_ns = plan.seconds * 1_000_000_000 * THREADS as u64 / (decoders.len() as u64).max(1);
    let next = AtomicUsize::new(0);
    let watched: [Watched; THREADS] = Default::default();
    let mut reports: Vec<Option<Report>> = decoders.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let (done, results) = sync_channel(decoders.len().max(1));
        for slot in &watched {
            let (done, next, clock) = (done.clone(), &next, &clock);
            scope.spawn(move || work(decoders, plan, share_ns, next, slot, clock, &done));
        }
        drop(done);
        loop {
            match results.recv_timeout(Duration::from_secs(1)) {
                Ok((index, report)) => reports[index] = Some(report),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    watched.iter().for_each(|slot| slot.judge(decoders, plan.seed, &clock));
                }
            }
        }
    });
    reports.into_iter().flatten().collect()
}

fn work(
    decoders: &[Decoder],
    plan: Plan,
    share_ns: u64,
    next: &AtomicUsize,
    slot: &Watched,
    clock: &RealClock,
    done: &SyncSender<(usize, Report)>,
) {
    loop {
        let index = next.fetch_add(1, Ordering::SeqCst);
        let Some(decoder) = decoders.get(index) else { return };
        let report = one_decoder(decoder, index, plan, share_ns, slot, clock);
        if done.send((index, report)).is_err() {
            return;
        }
    }
}

fn one_decoder(
    decoder: &Decoder,
    index: usize,
    plan: Plan,
    share_ns: u64,
    slot: &Watched,
    clock: &RealClock,
) -> Report {
    let ends_ns = clock.monotonic_ns() + share_ns;
    let mut report = Report { decoder: decoder.name(), ..Report::default() };
    let mut iteration = 0;
    while report.failure.is_none() {
        let example = decoder.examples().get(report.inputs as usize);
        let started_ns = clock.monotonic_ns();
        if example.is_none() && iteration >= MIN_ITERATIONS && started_ns >= ends_ns {
            break;
        }
        slot.begin(index, iteration, started_ns);
        let (input, origin, number) = match example {
            Some(example) => (example.clone(), Origin::AsFound, None),
            None => {
                let (input, origin) = input_of(decoder, plan.seed, iteration);
                iteration += 1;
                (input, origin, Some(iteration - 1))
            }
        };
        if plan.trace {
            eprintln!("{} {number:?} {origin:?} {} bytes", decoder.name(), input.len());
        }
        let tried = try_input(decoder, &input, origin, plan.meter);
        slot.end();
        report.inputs += 1;
        report.peak_bytes = report.peak_bytes.max(tried.peak_bytes);
        match tried.verdict {
            Ok(Verdict::Refused) if number.is_none() => {
                let what = "an example is refused".to_owned();
                report.failure = Some(Failure { iteration: number, origin, input, what });
            }
            Ok(Verdict::Accepted) => report.accepted += 1,
            Ok(Verdict::Refused) => report.refused += 1,
            Err(what) => report.failure = Some(Failure { iteration: number, origin, input, what }),
        }
    }
    report
}

/// What a thread is at, for the one that watches.
#[derive(Default)]
struct Watched {
    decoder: AtomicUsize,
    iteration: AtomicU64,
    /// 0 between inputs.
    started_ns: AtomicU64,
}

impl Watched {
    fn begin(&self, decoder: usize, iteration: u64, started_ns: u64) {
        self.decoder.store(decoder, Ordering::SeqCst);
        self.iteration.store(iteration, Ordering::SeqCst);
        self.started_ns.store(started_ns.max(1), Ordering::SeqCst);
    }

    fn end(&self) {
        self.started_ns.store(0, Ordering::SeqCst);
    }

    fn judge(&self, decoders: &[Decoder], seed: u64, clock: &RealClock) {
        let started_ns = self.started_ns.load(Ordering::SeqCst);
        let waited_ns = clock.monotonic_ns().saturating_sub(started_ns);
        if started_ns > 0 && waited_ns > STUCK_SECONDS * 1_000_000_000 {
            let decoder = decoders[self.decoder.load(Ordering::SeqCst)].name();
            let iteration = self.iteration.load(Ordering::SeqCst);
            println!("FAILED {decoder}: does not come back from iteration {iteration}");
            println!("  again: {}", again(seed, decoder, iteration));
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
            std::process::exit(1);
        }
    }
}

/// The command that repeats one iteration.
pub fn again(seed: u64, decoder: &str, iteration: u64) -> String {
    format!("{COMMAND} --seed {seed:016x} --decoder {decoder} --iteration {iteration}")
}

/// The command that runs the loop.
pub const COMMAND: &str = "cargo test --release --workspace --test mutation --";

/// One input may make a decoder hold so much at one time. A frame's decoder refuses lengths that
/// claim more than 64 MiB; the rest is what was read before the claim. Others hold far less.
pub const MAX_PEAK_BYTES: u64 = 96 * 1024 * 1024;

const THREADS: usize = 2;
/// Even a loop of no seconds says something about every decoder.
const MIN_ITERATIONS: u64 = 500;
/// A decoder takes micro- to milliseconds; this much on a loaded machine is a loop without end.
const STUCK_SECONDS: u64 = 60;

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

#[cfg(test)]
mod tests {
    use anyhow::{bail, ensure};

    use super::*;
    use crate::decoders::Family;

    fn unmetered(work: &mut dyn FnMut()) -> u64 {
        work();
        0
    }

    fn reports(decoders: &[Decoder]) -> Vec<Report> {
        catch_panics();
        run(decoders, Plan { seconds: 0, seed: 3, meter: unmetered, trace: false })
    }

    #[test]
    fn a_panic_and_a_broken_law_are_found_and_repeated() {
        let texts = vec![b"{\"a\":1}".to_vec()];
        let panics = |bytes: &[u8], _| {
            assert!(bytes.first() == Some(&b'{'), "no brace");
            Ok(Verdict::Accepted)
        };
        let breaks = |bytes: &[u8], _| {
            if bytes.len() > 40 {
                bail!("too long a law");
            }
            Ok(Verdict::Accepted)
        };
        let decoders = [
            Decoder::new("panics", Family::Bodies, texts.clone(), panics),
            Decoder::new("breaks", Family::Bodies, texts.clone(), breaks),
            Decoder::new("takes-all", Family::Bodies, texts, |_, _| Ok(Verdict::Accepted)),
        ];
        let found = reports(&decoders);
        for (report, needle) in found.iter().zip(["no brace", "too long a law"]) {
            let failure = report.failure.as_ref().unwrap();
            assert!(failure.what.contains(needle), "{failure:?}");
            let decoder = decoders.iter().find(|it| it.name() == report.decoder).unwrap();
            let (input, origin) = input_of(decoder, 3, failure.iteration.unwrap());
            assert_eq!((input, origin), (failure.input.clone(), failure.origin));
        }
        assert!(found[2].failure.is_none() && !found[2].is_good(), "nothing was ever refused");
    }

    #[test]
    fn half_of_the_inputs_are_mended_where_a_decoder_can() {
        let check = |bytes: &[u8], origin| {
            ensure!((origin == Origin::Mended) == bytes.ends_with(b", mended"), "{origin:?}");
            Ok(if bytes.len().is_multiple_of(2) { Verdict::Accepted } else { Verdict::Refused })
        };
        let decoder = Decoder::new("even", Family::Bodies, vec![b"ab".to_vec()], check)
            .mended_by(|bytes| Some([bytes, b", mended"].concat()));
        let found = reports(&[decoder]);
        assert!(found[0].is_good(), "{found:?}");
    }
}
