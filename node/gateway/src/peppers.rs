//! Peppers: under what the stored forms of client secrets and operator tokens are made.
//!
//! There may be several versions of one: what is new is stored under the newest, what is older is
//! tried under all. A stored form names its version ([`lease::operate::pepper_version`]), so the
//! ledger itself knows what still depends on an old one. When a credential is shown whose stored
//! form is of an old version, it is stored anew under the newest; so an old version runs empty.

use std::collections::BTreeMap;

use lease::operate::{pepper_version, peppered};
use protocol::mac::MacKey;
use subtle::ConstantTimeEq;

/// All versions of one pepper.
pub struct Peppers {
    versions: BTreeMap<u32, MacKey>,
    newest: (u32, MacKey),
}

impl Peppers {
    /// The first version, which every cluster begins with.
    pub fn first(key: MacKey) -> Self {
        Self { versions: BTreeMap::new(), newest: (1, key) }
    }

    /// These versions; `None` when there are none.
    pub fn of(mut versions: BTreeMap<u32, MacKey>) -> Option<Self> {
        let newest = versions.pop_last()?;
        Some(Self { versions, newest })
    }

    /// The version under which new credentials are stored.
    pub fn newest_version(&self) -> u32 {
        self.newest.0
    }

    /// Every version, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = u32> {
        self.versions.keys().copied().chain([self.newest.0])
    }

    /// The stored form under the newest version.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        peppered(self.newest.0, self.newest.1.tag(parts))
    }

    /// The stored forms under every version, newest first: how to look for a row by its MAC.
    pub fn tags(&self, parts: &[&[u8]]) -> Vec<[u8; 32]> {
        self.newest_first().map(|(version, key)| peppered(version, key.tag(parts))).collect()
    }

    /// Whether a stored form is that of this text, under its own version; in time that does not
    /// depend on the text.
    pub fn matches(&self, stored: &[u8; 32], parts: &[&[u8]]) -> bool {
        let version = pepper_version(stored);
        let known = self.newest_first().find(|(known, _)| *known == version);
        // A version that is gone costs the same and matches nothing.
        let (version, key) = known.unwrap_or((self.newest.0, &self.newest.1));
        stored.ct_eq(&peppered(version, key.tag(parts))).into()
    }

    /// Whether a stored form is under an older version than the newest.
    pub fn is_old(&self, stored: &[u8; 32]) -> bool {
        pepper_version(stored) != self.newest.0
    }

    fn newest_first(&self) -> impl Iterator<Item = (u32, &MacKey)> {
        let older = self.versions.iter().rev().map(|(version, key)| (*version, key));
        [(self.newest.0, &self.newest.1)].into_iter().chain(older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peppers(versions: &[u32]) -> Peppers {
        let key = |version: u32| MacKey::new([version as u8; 32]);
        Peppers::of(versions.iter().map(|version| (*version, key(*version))).collect()).unwrap()
    }

    #[test]
    fn what_was_stored_under_any_version_that_is_left_matches_and_nothing_else_does() {
        let text: &[&[u8]] = &[b"a credential"];
        for version in [1, 2, 300] {
            let stored = peppers(&[version]).tag(text);
            assert_eq!(pepper_version(&stored), version);
            for (left, matches) in [
                (vec![version], true),
                (vec![version, version + 1], true),
                (vec![version + 1], false),
                (vec![version + 1, version + 2], false),
            ] {
                let left_over = peppers(&left);
                assert_eq!(left_over.matches(&stored, text), matches, "{version} {left:?}");
                assert_eq!(left_over.is_old(&stored), left.last() != Some(&version));
                assert!(!left_over.matches(&stored, &[b"another"]));
                let found = left_over.tags(text).contains(&stored);
                assert_eq!(found, matches);
            }
        }
        assert!(Peppers::of(BTreeMap::new()).is_none());
        assert_eq!(Peppers::first(MacKey::new([1; 32])).tag(text), peppers(&[1]).tag(text));
    }

    #[test]
    fn new_credentials_are_stored_under_the_newest() {
        let several = peppers(&[1, 2, 3]);
        assert_eq!(several.newest_version(), 3);
        assert_eq!(several.versions().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(pepper_version(&several.tag(&[b"x"])), 3);
    }
}
