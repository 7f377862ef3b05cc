//! Which versions of a product a package covers.
//!
//! A range is a list of comparators, joined by commas or spaces, all of which must hold:
//!
//! | written | covers |
//! |---|---|
//! | `*` or nothing | every version, whatever its form |
//! | `8.2.1` | that version; `8.2` covers 8.2.x, `8` covers 8.x |
//! | `>=8.0.0`, `>8`, `<9`, `<=8.4` | as they say; a missing part is open: `<=8.4` covers 8.4.9 |
//! | `^8.2`, `~8.2.1` | up to the next major or minor version |
//! | `8.x`, `8.2.*` | 8.x, 8.2.x |
//!
//! Versions are read leniently, because products do not all follow semantic versioning: a leading
//! `v`, missing parts (`8.2` is 8.2.0) and a fourth part (dropped) are fine. A pre-release is
//! covered where its release is: `9.0.0-beta` is not below 9.0.0, and `8.3.0-rc1` is covered by
//! `>=8.0.0`.

use semver::{BuildMetadata, Prerelease, Version, VersionReq};
use thiserror::Error;

use crate::wire::MAX_TEXT_CHARS;

/// Why a range or a version cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VersionError {
    /// The package's range.
    #[error("not a range of versions, as >=8.0.0 or >=8.0, <9")]
    Range,
    /// The product's version.
    #[error("not a version of numbers, as 8.2.1")]
    Version,
}

/// Whether the range covers the version.
pub fn version_matches(range: &str, version: &str) -> Result<bool, VersionError> {
    let Some(range) = parse_range(range)? else { return Ok(true) };
    let version = parse_version(version)?;
    let release = Version { pre: Prerelease::EMPTY, ..version.clone() };
    Ok(range.matches(&version) || range.matches(&release))
}

/// Whether a text is a range; what [`version_matches`] would say about it.
pub(super) fn check_range(range: &str) -> Result<(), VersionError> {
    parse_range(range).map(drop)
}

/// The comparators, or `None` where every version is covered.
fn parse_range(range: &str) -> Result<Option<VersionReq>, VersionError> {
    if range.len() > MAX_TEXT_CHARS {
        return Err(VersionError::Range);
    }
    let mut comparators = Vec::new();
    let mut operator = "";
    for token in range.split([',', ' ', '\t']).filter(|token| !token.is_empty()) {
        let numbers = token.trim_start_matches(['<', '>', '=', '^', '~']);
        let written = &token[..token.len() - numbers.len()];
        if !written.is_empty() && !operator.is_empty() {
            return Err(VersionError::Range);
        }
        operator = if written.is_empty() { operator } else { written };
        if numbers.is_empty() {
            continue;
        }
        comparators.push(comparator(operator, numbers)?);
        operator = "";
    }
    if !operator.is_empty() {
        return Err(VersionError::Range);
    }
    comparators.retain(|text| text != "*");
    if comparators.is_empty() {
        return Ok(None);
    }
    VersionReq::parse(&comparators.join(",")).map(Some).map_err(|_| VersionError::Range)
}

fn comparator(operator: &str, numbers: &str) -> Result<String, VersionError> {
    let numbers = numbers.strip_prefix(['v', 'V']).unwrap_or(numbers);
    let is_wild = numbers.split('.').any(|part| matches!(part, "*" | "x" | "X"));
    match operator {
        "" | "=" | "==" if is_wild => Ok(numbers.to_owned()),
        "" | "=" | "==" => Ok(format!("={numbers}")),
        "<" | "<=" | ">" | ">=" | "^" | "~" if !is_wild => Ok(format!("{operator}{numbers}")),
        _ => Err(VersionError::Range),
    }
}

fn parse_version(text: &str) -> Result<Version, VersionError> {
    let text = text.trim();
    if text.len() > MAX_TEXT_CHARS {
        return Err(VersionError::Version);
    }
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let text = text.split_once('+').map_or(text, |(before, _build)| before);
    let (numbers, pre) = text.split_once('-').map_or((text, ""), |(numbers, pre)| (numbers, pre));
    let mut parts = [0_u64; 3];
    let mut count = 0;
    for (at, part) in numbers.split('.').enumerate() {
        let number = Some(part)
            .filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|part| part.parse().ok())
            .ok_or(VersionError::Version)?;
        if let Some(slot) = parts.get_mut(at) {
            *slot = number;
        }
        count = at + 1;
    }
    if count > 4 {
        return Err(VersionError::Version);
    }
    let [major, minor, patch] = parts;
    let pre = Prerelease::new(pre).map_err(|_| VersionError::Version)?;
    Ok(Version { major, minor, patch, pre, build: BuildMetadata::EMPTY })
}
