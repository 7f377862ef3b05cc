//! Every decoder of the product, with examples of what it takes and the law it keeps.
//!
//! One registry serves two loops: `cargo xtask test --tier mutation` changes the examples for a
//! minute ([`run`]), and the targets under `tests/fuzz` let libFuzzer look for inputs for as long
//! as one likes. A decoder is a name, examples made by our own encoders (and recorded ones where
//! the fixtures are there), and a check: it reads the bytes and says whether they were taken or
//! refused, or which law they break. Never a panic, never more memory than the loop's bound.
//!
//! ```text
//! example ── mutate ──▶ changed ──┬──────────────▶ check(AsFound)    what a stranger sends
//!                                 └── mended ────▶ check(Mended)     sums and signatures put right
//! ```
//!
//! Whatever is signed, sealed or summed would refuse nearly every change at the first gate. So such
//! a decoder can also mend a changed input (write the sum, sign again), and the loop does that to
//! half of them: behind the gate there are readers too. The law differs. As found, a changed
//! input is refused or says exactly what an example says. Mended, it is refused or comes back from
//! the encoder as what was read.
//!
//! What it leaves to others: what accepted values mean (the tests of each crate), the bytes of
//! released versions (`lease/tests/golden`, the fixtures and the vectors).

mod audit;
mod bodies;
mod classic;
mod deployment;
mod device;
mod disk;
mod documents;
mod evaluation;
mod ledger;
mod mutate;
pub mod run;
mod samples;
mod tokens;

use anyhow::{Context, Result};

pub use samples::are_recorded;

/// Which part of the product a decoder belongs to; each has one target for libFuzzer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Packages, keys and strict JSON.
    Documents,
    /// Ids, tokens, key sets and claims.
    Tokens,
    /// Bodies, forms and headers of the cloud protocol and of the admin API.
    Bodies,
    /// The `device` protocol.
    Device,
    /// The `deployment` protocol.
    Deployment,
    /// The `evaluation` protocol.
    Evaluation,
    /// The `classic` face.
    Classic,
    /// Entries, outcomes, rows and blocks.
    Ledger,
    /// Segments of the log, redo files, snapshots.
    Disk,
}

/// How an input came about, which decides the law it is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// As a stranger or a broken disk gives it.
    AsFound,
    /// Changed and then given right sums or signatures.
    Mended,
}

/// What a decoder did with an input. Breaking a law is an error and no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A value came out.
    Accepted,
    /// An error came out.
    Refused,
}

impl Verdict {
    /// Accepted when a value came out.
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Accepted } else { Self::Refused }
    }
}

type Check = dyn Fn(&[u8], Origin) -> Result<Verdict> + Send + Sync;
type Mend = dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync;

/// One decoder.
pub struct Decoder {
    name: &'static str,
    family: Family,
    examples: Vec<Vec<u8>>,
    check: Box<Check>,
    mend: Option<Box<Mend>>,
}

impl Decoder {
    /// A decoder that takes each of `examples`; `check` holds its law.
    pub(crate) fn new(
        name: &'static str,
        family: Family,
        examples: Vec<Vec<u8>>,
        check: impl Fn(&[u8], Origin) -> Result<Verdict> + Send + Sync + 'static,
    ) -> Self {
        Self { name, family, examples, check: Box::new(check), mend: None }
    }

    /// Puts sums or signatures of a changed input right; `None` where nothing can be.
    pub(crate) fn mended_by(
        mut self,
        mend: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.mend = Some(Box::new(mend));
        self
    }

    /// Unique among decoders.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it belongs.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Inputs that it takes.
    pub fn examples(&self) -> &[Vec<u8>] {
        &self.examples
    }

    /// Reads an input.
    ///
    /// # Errors
    /// The law that is broken.
    ///
    /// # Panics
    /// When the decoder does, which is what is looked for.
    pub fn check(&self, bytes: &[u8], origin: Origin) -> Result<Verdict> {
        (self.check)(bytes, origin)
            .with_context(|| format!("decoder {} breaks its law ({origin:?})", self.name))
    }

    /// The input with sums or signatures put right, where the decoder has any.
    pub fn mend(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.mend.as_ref().and_then(|mend| mend(bytes))
    }
}

/// Every decoder there is. Says aloud which recorded examples are missing.
///
/// # Errors
/// An example that could not be made: the product's own encoder failed.
pub fn registry() -> Result<Vec<Decoder>> {
    let mut decoders = documents::decoders()?;
    decoders.extend(tokens::decoders()?);
    decoders.extend(bodies::decoders()?);
    decoders.extend(audit::decoders()?);
    decoders.extend(device::decoders()?);
    decoders.extend(deployment::decoders()?);
    decoders.extend(evaluation::decoders()?);
    decoders.extend(classic::decoders()?);
    decoders.extend(ledger::decoders()?);
    decoders.extend(disk::decoders()?);
    Ok(decoders)
}

/// The decoders of one family, for a target of libFuzzer.
///
/// # Panics
/// When the examples cannot be made: there is nothing to fuzz then.
pub fn family(wanted: Family) -> Vec<Decoder> {
    match registry() {
        Ok(mut decoders) => {
            decoders.retain(|decoder| decoder.family == wanted);
            decoders
        }
        Err(error) => panic!("the examples cannot be made: {error:#}"),
    }
}

/// Gives one input to each decoder, as found and mended: what a target of libFuzzer does.
///
/// # Panics
/// When a decoder panics or a law is broken: so libFuzzer learns of it.
pub fn fuzz(decoders: &[Decoder], bytes: &[u8]) {
    for decoder in decoders {
        let mended = decoder.mend(bytes);
        let inputs = [(Some(bytes), Origin::AsFound), (mended.as_deref(), Origin::Mended)];
        for (input, origin) in inputs {
            if let Some(Err(error)) = input.map(|input| decoder.check(input, origin)) {
                panic!("{error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_example_is_accepted() {
        let decoders = registry().unwrap();
        let names: BTreeSet<&str> = decoders.iter().map(Decoder::name).collect();
        assert_eq!(names.len(), decoders.len());
        for decoder in &decoders {
            assert!(!decoder.examples().is_empty(), "{} has no example", decoder.name());
            for (number, example) in decoder.examples().iter().enumerate() {
                let verdict = decoder.check(example, Origin::AsFound).unwrap();
                assert_eq!(verdict, Verdict::Accepted, "{} {number}", decoder.name());
            }
        }
    }
}
