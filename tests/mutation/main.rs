//! The mutation loop over every decoder: `cargo xtask test --tier mutation`.
//!
//! ```text
//! mutation [--seconds N] [--seed HEX] [--decoder NAME] [--iteration N | --input HEX|@FILE]
//!          [--mended] [--trace] [--list] [--write-examples DIRECTORY]
//! ```
//!
//! Without a seed one is drawn and printed. A failure prints the decoder, the seed, the iteration,
//! the input in hex, and the command that repeats it. An allocation that the machine refuses ends
//! the process before anything can be printed; `--trace` then tells which input it was. Here and
//! not in a library, since counting what is allocated is a choice of the whole program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::HEXLOWER_PERMISSIVE;
use leasehold_tests::decoders::run::{
    COMMAND, Failure, Plan, Report, again, catch_panics, input_of, run, try_input,
};
use leasehold_tests::decoders::{Decoder, Origin, are_recorded, registry};
use storage::seam::{Entropy, RealEntropy};

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)).and_then(act) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Asked {
    seconds: Option<u64>,
    seed: Option<u64>,
    decoder: Option<String>,
    iteration: Option<u64>,
    input: Option<Vec<u8>>,
    mended: bool,
    trace: bool,
    list: bool,
    write_examples: Option<PathBuf>,
}

fn asked(mut words: impl Iterator<Item = String>) -> Result<Asked> {
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seconds" => asked.seconds = Some(value()?.parse().context("--seconds")?),
            "--seed" => asked.seed = Some(u64::from_str_radix(&value()?, 16).context("--seed")?),
            "--decoder" => asked.decoder = Some(value()?),
            "--iteration" => asked.iteration = Some(value()?.parse().context("--iteration")?),
            "--input" => asked.input = Some(input(&value()?)?),
            "--mended" => asked.mended = true,
            "--trace" => asked.trace = true,
            "--list" => asked.list = true,
            "--write-examples" => asked.write_examples = Some(value()?.into()),
            other => bail!("unknown argument {other}"),
        }
    }
    ensure!(
        asked.decoder.is_some() || (asked.iteration.is_none() && asked.input.is_none()),
        "one input is for one decoder: say --decoder"
    );
    Ok(asked)
}

fn input(text: &str) -> Result<Vec<u8>> {
    let text = match text.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
        }
        None => text.to_owned(),
    };
    HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).context("--input is hex")
}

fn act(asked: Asked) -> Result<bool> {
    let mut decoders = registry()?;
    if let Some(name) = &asked.decoder {
        decoders.retain(|decoder| decoder.name() == name);
        ensure!(!decoders.is_empty(), "no decoder is called {name}; --list shows them");
    }
    if asked.list {
        for decoder in &decoders {
            println!("{:<28} {:?}", decoder.name(), decoder.family());
        }
        return Ok(true);
    }
    if let Some(directory) = &asked.write_examples {
        return write_examples(&decoders, directory).map(|()| true);
    }
    let seed = asked.seed.unwrap_or_else(drawn_seed);
    catch_panics();
    match (decoders.first(), asked.iteration, asked.input) {
        (Some(decoder), _, Some(input)) => {
            let origin = if asked.mended { Origin::Mended } else { Origin::AsFound };
            Ok(one(decoder, &input, origin))
        }
        (Some(decoder), Some(iteration), None) => {
            let (input, origin) = input_of(decoder, seed, iteration);
            Ok(one(decoder, &input, origin))
        }
        _ => {
            let plan = Plan {
                seconds: asked.seconds.unwrap_or(DEFAULT_SECONDS),
                seed,
                meter: measured,
                trace: asked.trace,
            };
            Ok(all(&decoders, plan))
        }
    }
}

/// A folder for each family, a file for each example: where libFuzzer may begin.
fn write_examples(decoders: &[Decoder], directory: &Path) -> Result<()> {
    for decoder in decoders {
        let folder = directory.join(format!("{:?}", decoder.family()).to_lowercase());
        std::fs::create_dir_all(&folder)?;
        for (number, example) in decoder.examples().iter().enumerate() {
            std::fs::write(folder.join(format!("{}-{number}", decoder.name())), example)?;
        }
    }
    println!("wrote the examples of {} decoders", decoders.len());
    Ok(())
}

fn drawn_seed() -> u64 {
    let mut bytes = [0; 8];
    RealEntropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn measured(work: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(work).bytes_max
}

fn one(decoder: &Decoder, input: &[u8], origin: Origin) -> bool {
    let tried = try_input(decoder, input, origin, measured);
    println!("{} {origin:?}: {} bytes, held {}", decoder.name(), input.len(), tried.peak_bytes);
    match &tried.verdict {
        Ok(verdict) => println!("{verdict:?}"),
        Err(what) => println!("FAILED {what}\n{}", String::from_utf8_lossy(input)),
    }
    tried.verdict.is_ok()
}

fn all(decoders: &[Decoder], plan: Plan) -> bool {
    println!("seed {:016x}, {} decoders, {} s", plan.seed, decoders.len(), plan.seconds);
    let skipped = u64::from(!are_recorded());
    if skipped > 0 {
        println!("skipped: recorded examples (../shared/fixtures is not there)");
    }
    let reports = run(decoders, plan);
    println!("{:<28} {:>9} {:>9} {:>9} {:>9}", "decoder", "inputs", "accepted", "refused", "KiB");
    for report in &reports {
        println!(
            "{:<28} {:>9} {:>9} {:>9} {:>9}",
            report.decoder,
            report.inputs,
            report.accepted,
            report.refused,
            report.peak_bytes.div_ceil(1024)
        );
    }
    for report in reports.iter().filter(|report| !report.is_good()) {
        tell(report, plan.seed);
    }
    let failed = reports.iter().filter(|report| !report.is_good()).count();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let passed = reports.len() - failed;
    println!("test result: {word}. {passed} passed; {failed} failed; {skipped} ignored");
    failed == 0
}

fn tell(report: &Report, seed: u64) {
    let decoder = report.decoder;
    let Some(Failure { iteration, origin, input, what }) = &report.failure else {
        println!("\nFAILED {decoder}: nothing was accepted, or nothing refused");
        println!("  again: {COMMAND} --seed {seed:016x} --decoder {decoder}");
        return;
    };
    let place = iteration.map_or("an example".to_owned(), |number| format!("iteration {number}"));
    println!("\nFAILED {decoder}, seed {seed:016x}, {place}, {origin:?}\n  {what}");
    let mended = if *origin == Origin::Mended { " --mended" } else { "" };
    let hex = data_encoding::HEXLOWER.encode(input);
    if hex.len() <= MAX_PRINTED_DIGITS {
        println!("  input: {hex}");
        println!("  again: {COMMAND} --decoder {decoder}{mended} --input {hex}");
    } else {
        let path = std::env::temp_dir().join(format!("leasehold-{decoder}-{seed:016x}.hex"));
        match std::fs::write(&path, hex) {
            Ok(()) => again_from_file(decoder, mended, &path),
            Err(error) => println!("  input: {} bytes, not written: {error}", input.len()),
        }
    }
    if let Some(iteration) = iteration {
        println!("  again: {}", again(seed, decoder, *iteration));
    }
}

fn again_from_file(decoder: &str, mended: &str, path: &Path) {
    println!("  input: in hex in {}", path.display());
    println!("  again: {COMMAND} --decoder {decoder}{mended} --input @{}", path.display());
}

const DEFAULT_SECONDS: u64 = 60;
const MAX_PRINTED_DIGITS: usize = 8_192;
