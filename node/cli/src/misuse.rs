//! A command line that cannot be read, told in the form that it asked for.
//!
//! The words are not parsed when this is needed, so the form is looked for among them.

use clap::error::ErrorKind;

use crate::error::CliError;
use crate::exit::Exit;
use crate::report;

/// Prints why a command line cannot be read, or the help that it asked for, and gives the exit
/// code: 0 for help and version, 2 for a mistake. With `--output json` a mistake is a JSON document
/// on standard error, as every other error is.
pub fn misuse(error: &clap::Error, words: &[String]) -> Exit {
    if !error.use_stderr() {
        // A reader that went away has read enough.
        let _ = error.print();
        return Exit::Done;
    }
    if wants_json(words) {
        return report::print_error(&CliError::Usage(sentence(error)));
    }
    // What cannot be said to standard error cannot be said at all; the exit code still tells.
    let _ = error.print();
    Exit::Usage
}

/// Whether `--output json` is among the words, in any of its spellings.
fn wants_json(words: &[String]) -> bool {
    let words = words.iter().take_while(|word| *word != "--");
    let mut is_value = false;
    let mut wants = false;
    for word in words {
        let value = match word.as_str() {
            _ if is_value => Some(word.as_str()),
            "-o" | "--output" => None,
            word => word
                .strip_prefix("--output=")
                .or_else(|| word.strip_prefix("-o=").or_else(|| word.strip_prefix("-o"))),
        };
        is_value = !is_value && matches!(word.as_str(), "-o" | "--output");
        if let Some(value) = value {
            wants = value == "json";
        }
    }
    wants
}

/// What clap says, in one line, without the usage that people are shown.
fn sentence(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "the verb is not whole: --help shows how it goes on".to_owned();
    }
    let text = error.to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more information").next().unwrap_or_default();
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::scripted::CommandLine;

    #[test]
    fn a_mistake_is_told_in_the_form_that_was_asked_for() {
        for (line, is_json) in [
            ("cluster statsu", false),
            ("cluster statsu -o json", true),
            ("-ojson cluster statsu", true),
            ("-o=json cluster statsu", true),
            ("--output=json cluster statsu", true),
            ("--output json cluster statsu", true),
            ("--output table cluster statsu", false),
            ("cluster statsu -- -o json", false),
            ("cluster statsu --context json", false),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(wants_json(&words), is_json, "{line}");
        }
    }

    #[test]
    fn a_mistake_is_one_line() {
        for (line, has) in [
            ("leasehold cluster statsu", "tip: a similar subcommand exists: 'status'"),
            ("leasehold lease show", "were not provided: <LEASE_ID>"),
            ("leasehold lease list --limit 0", "--limit"),
            ("leasehold lease", "the verb is not whole"),
        ] {
            let error = CommandLine::try_parse_from(line.split_whitespace()).err().unwrap();
            let sentence = sentence(&error);
            assert!(sentence.contains(has), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("Usage"), "{sentence}");
        }
    }
}
