//! The whole command tree, verb by verb: that each explains itself, that its examples can be typed,
//! and that what it prints for scripts has a schema.

use std::collections::{BTreeMap, BTreeSet};

use clap::Command as Tree;

use super::*;

/// Every command with its words, as `pool list`; the program itself has none.
fn commands() -> Vec<(String, Tree)> {
    let mut tree = CommandLine::command();
    tree.build();
    let mut found = Vec::new();
    let mut left = vec![(String::new(), tree)];
    while let Some((words, tree)) = left.pop() {
        for below in tree.get_subcommands().filter(|below| below.get_name() != "help") {
            left.push((format!("{words} {}", below.get_name()).trim().to_owned(), below.clone()));
        }
        found.push((words, tree));
    }
    found
}

/// What does something by itself, rather than only holding verbs together.
fn is_leaf(tree: &Tree) -> bool {
    !tree.has_subcommands() || !tree.is_subcommand_required_set()
}

/// The command lines of a text of examples, as words. What a shell does with the rest of a line is
/// cut off; what it replaces stays as it is.
fn examples(help: &str) -> Vec<Vec<String>> {
    let joined = help.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim_start);
    lines.filter(|line| line.starts_with("leasehold ")).map(words_of).collect()
}

fn words_of(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '>' | '<' | '|' | '(' | '#') if word.is_none() => return words,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_and_option_explains_itself_within_100_columns() {
    let mut abouts: BTreeMap<String, String> = BTreeMap::new();
    for (words, mut tree) in commands() {
        let about = tree.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty(), "`{words}` says nothing of itself");
        if let Some(other) = abouts.insert(about, words.clone()) {
            panic!("`{words}` says the same as `{other}`");
        }
        for option in tree.get_arguments().filter(|option| !option.is_hide_set()) {
            let id = option.get_id();
            assert!(option.get_help().is_some(), "`{words}` does not explain {id}");
            let takes_value = option.get_num_args().is_some_and(|count| count.takes_values());
            let names = option.get_value_names().unwrap_or_default();
            assert!(!takes_value || !names.is_empty(), "`{words}`: what is the value of {id}?");
        }
        for help in [tree.render_help(), tree.render_long_help()] {
            let help = help.to_string();
            let wide = help.lines().find(|line| line.chars().count() > 100);
            assert_eq!(wide, None, "`{words}`");
        }
    }
}

#[test]
fn every_verb_has_examples_that_can_be_typed() {
    let mut wrong = Vec::new();
    for (verb, tree) in commands().into_iter().filter(|(_, tree)| is_leaf(tree)) {
        let help = tree.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = examples(&help);
        for words in &examples {
            if let Err(error) = CommandLine::try_parse_from(words) {
                wrong.push(format!("`{verb}` has an example that is refused: {words:?}\n{error}"));
            }
        }
        let own = SAME_AS.iter().find(|(name, _)| *name == verb).map_or(&*verb, |(_, same)| *same);
        let own: Vec<&str> = own.split(' ').collect();
        let is_own = |words: &Vec<String>| {
            let said: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            said.starts_with(&own)
        };
        let piped = format!("$(leasehold {verb})");
        if !examples.iter().any(is_own) && !help.contains(&piped) {
            wrong.push(format!("`{verb}` has no example"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_manual_and_the_completions_come_from_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().to_str().unwrap();
    let line = CommandLine::try_parse_from(["leasehold", "man", "--dir", to]).unwrap();
    let Command::Man(options) = line.command else { panic!("{:?}", line.command) };
    manual::man(CommandLine::command(), &options, &mut Vec::new()).unwrap();
    let pages: BTreeSet<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<String> = commands()
        .iter()
        .map(|(words, _)| format!("leasehold {words}").trim().replace(' ', "-") + ".1")
        .collect();
    assert_eq!(pages, wanted);
    for shell in ["bash", "zsh", "fish"] {
        let line = CommandLine::try_parse_from(["leasehold", "completions", shell]).unwrap();
        let Command::Completions(options) = line.command else { panic!("{:?}", line.command) };
        let mut script = Vec::new();
        manual::completions(CommandLine::command(), &options, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        for (words, _) in commands() {
            let name = words.split(' ').next_back().unwrap_or_default();
            assert!(script.contains(name), "{shell} does not complete `{words}`");
        }
    }
}

#[test]
fn every_verb_prints_a_document_that_has_a_schema() {
    let schemas: serde_json::Value = serde_json::from_str(OUTPUTS).unwrap();
    let known = schemas["verbs"].as_object().unwrap().keys().cloned();
    let other = NO_DOCUMENT.iter().map(|(verb, _)| (*verb).to_owned());
    let declared: BTreeSet<String> = known.chain(other).collect();
    let leaves = commands().into_iter().filter(|(words, tree)| !words.is_empty() && is_leaf(tree));
    let verbs: BTreeSet<String> = leaves.map(|(words, _)| words).collect();
    assert_eq!(verbs, declared, "every verb, and no other, is in client/openapi/cli-output.json");
}

/// Verbs that show the examples of another, since they are the same.
const SAME_AS: &[(&str, &str)] = &[("package import", "import")];
/// Verbs that print no document, and what they print.
const NO_DOCUMENT: &[(&str, &str)] = &[
    ("dev", "what happens, for the person who watches"),
    ("serve", "the log, in the form that the configuration says"),
    ("openapi", "the OpenAPI document, whatever --output says"),
    ("completions", "a script of the shell"),
    ("man", "a manual page"),
];
const OUTPUTS: &str = include_str!("../../../client/openapi/cli-output.json");

/// Holds what a verb came to against its schema, with no field at the top that it does not have.
#[track_caller]
pub(crate) fn hold(verb: &str, document: &serde_json::Value) {
    let schemas: serde_json::Value = serde_json::from_str(OUTPUTS).unwrap();
    let schema = serde_json::json!({
        "$ref": schemas["verbs"][verb]["$ref"],
        "$defs": schemas["$defs"],
        "unevaluatedProperties": false,
    });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    if let Err(error) = validator.validate(document) {
        panic!("{verb}: {error} at {}: {document:#}", error.instance_path());
    }
}
