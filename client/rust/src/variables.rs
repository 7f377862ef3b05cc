//! Configuration from the variables of the process, and the home directory.
//!
//! What was said to a builder goes before a variable, a variable before a default; an empty
//! variable is absent. Only variables that some client knows are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Error;

/// The variables that mean something to a client.
pub(crate) fn of_process() -> BTreeMap<String, String> {
    let is_ours = |name: &str| {
        name.starts_with("LICENSE_")
            || name.starts_with("EDON_")
            || matches!(name, "CLUSTER_ID" | "HOSTNAME" | "HOME" | "USERPROFILE")
    };
    // `std::env::vars` panics over a text that is not Unicode.
    let texts = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| is_ours(name)).collect()
}

/// A variable, trimmed; `None` when it is absent or empty.
pub(crate) fn get(variables: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let value = variables.get(name).map(|value| value.trim());
    value.filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Whether a value says yes, as Go programs read it.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "yes" | "on")
}

/// A path below the home directory, unless it says where it is itself.
pub(crate) fn in_home(
    path: PathBuf,
    variables: &BTreeMap<String, String>,
) -> Result<PathBuf, Error> {
    if path.is_absolute() {
        return Ok(path);
    }
    let home = get(variables, "HOME").or_else(|| get(variables, "USERPROFILE"));
    let home = home.ok_or_else(|| {
        Error::configuration(format!("{} is below no home directory", path.display()))
    })?;
    Ok(PathBuf::from(home).join(path))
}
