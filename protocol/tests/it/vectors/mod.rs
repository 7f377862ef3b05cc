//! The vectors of `client/vectors/v1`, which every SDK is held to: made here, from fixed inputs, by
//! the functions that a server answers with, and compared byte for byte with what is committed.
//!
//! RSA-PSS signatures have a random salt. A committed one is kept where it verifies over the bytes
//! that are made now; otherwise it is made anew, and the comparison fails until it is committed.
//!
//! `cargo xtask fix` sets [`WRITE`], under which the files are written and not compared.
//!
//! | module | owns |
//! |---|---|
//! | [`document`] | how a file is written |
//! | `offline`, `deployment`, `device`, `sealed`, `evaluation`, `classic`, `cloud` | the files |
//! | `forms` | that our forms are those of the recorded data |
//!
//! What it leaves to others: reading the files as an SDK does, and changing every byte of what is
//! signed in them (each SDK's own tests).

mod classic;
mod cloud;
mod deployment;
mod device;
mod document;
mod evaluation;
mod forms;
mod offline;
mod sealed;

use std::collections::BTreeSet;
use std::path::PathBuf;

use document::{Node, list};

/// Set to anything, the files are written.
const WRITE: &str = "WRITE_CLIENT_VECTORS";

/// Makes a file.
type Maker = fn() -> Node;

/// Every file and what makes it. A file may read one that stands before it.
const FILES: [(&str, Maker); 12] = [
    ("offline_token.json", offline::make),
    ("deployment_access_token.json", deployment::make),
    ("device_fingerprint.json", device::make_fingerprint),
    ("device_payload.json", device::make_payload),
    ("device_schedule.json", device::make_schedule),
    ("device_activation.json", sealed::make_activation),
    ("device_envelope.json", sealed::make_envelope),
    ("device_stored_license.json", sealed::make_stored),
    ("evaluation_license.json", evaluation::make_license),
    ("evaluation_clock.json", evaluation::make_clock),
    ("classic_signature.json", classic::make),
    ("cloud_package.json", cloud::make),
];

/// What every file begins with, and its own members.
fn file(description: &str, source: &[&str], members: Vec<(&'static str, Node)>) -> Node {
    let head = vec![
        ("version", 1_u32.into()),
        ("description", description.into()),
        ("source", list(source.iter().copied())),
    ];
    Node::Object([head, members].concat())
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../client/vectors/v1")
}

/// A file as it is committed; empty when it is not there.
fn committed(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_default()
}

#[test]
fn the_committed_vectors_are_what_this_code_writes() {
    let writes = std::env::var_os(WRITE).is_some();
    for (name, make) in FILES {
        let made = make().to_file();
        if writes {
            std::fs::write(folder().join(name), made).unwrap();
        } else {
            let is_same = committed(name) == made;
            assert!(is_same, "client/vectors/v1/{name} is out of date; run: cargo xtask fix");
        }
    }
}

#[test]
fn the_folder_holds_what_is_made_and_its_readme_names_it() {
    let made: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, made);
    let readme = std::fs::read_to_string(folder().join("../README.md")).unwrap();
    for name in made {
        assert!(readme.contains(&format!("`{name}`")), "client/vectors/README.md lacks {name}");
    }
}
