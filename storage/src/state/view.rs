//! Rows as the last checkpoint left them: a generation, and over it what is not yet in it.
//!
//! While somebody reads a generation, checkpoints wait in their redo files and, in memory, in an
//! [`Overlay`]. A view is the two together, and as long as the generation is pinned it never
//! changes: the overlay is shared and copied when it grows.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::engine::{EnginePage, PAGE_BYTES};
use super::error::Fault;
use super::generation::{Generation, unseal};
use crate::snapshot::ROW_OVERHEAD_BYTES;

/// Changed rows by the store's key; `None` is deleted.
pub(crate) type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A generation with changes over it.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) generation: Arc<Generation>,
    pub(crate) overlay: Arc<Overlay>,
}

/// Some rows in order of their keys.
pub(crate) struct Page {
    /// The store's keys, and values.
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the next page goes on; `None` when there is no more.
    pub(crate) next: Option<Cursor>,
}

/// A place between rows.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    key: Vec<u8>,
    after: bool,
}

impl Cursor {
    /// Before the first row with this key or a later one.
    pub(crate) fn at(key: Vec<u8>) -> Self {
        Self { key, after: false }
    }

    /// Before the first row of any table.
    pub(crate) fn start() -> Self {
        Self::at(vec![FIRST_TABLE])
    }

    fn after(key: Vec<u8>) -> Self {
        Self { key, after: true }
    }

    fn bound(&self) -> Bound<&Vec<u8>> {
        if self.after { Bound::Excluded(&self.key) } else { Bound::Included(&self.key) }
    }
}

impl View {
    /// The value under one of the store's keys.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(value) = self.overlay.get(key) {
            return Ok(value.clone());
        }
        let path = &self.generation.path;
        let stored = self
            .generation
            .engine
            .get(key)
            .map_err(|error| Fault::engine(path, "read a row", error))?;
        stored.map(|stored| unseal(path, &stored)).transpose()
    }

    /// Rows from `cursor` on, up to `limit` or a little over [`PAGE_BYTES`]. A page may
    /// be empty and yet not the last, when all its rows are deleted.
    pub(crate) fn page(&self, cursor: &Cursor, limit: usize) -> Result<Page, Fault> {
        let path = &self.generation.path;
        let EnginePage { rows, last } = self
            .generation
            .engine
            .page(&cursor.key, cursor.after)
            .map_err(|error| Fault::engine(path, "read rows", error))?;
        let end = if last { None } else { rows.last().map(|(key, _)| key.clone()) };
        let over = self.overlay.range::<Vec<u8>, _>((
            cursor.bound(),
            end.as_ref().map_or(Bound::Unbounded, Bound::Included),
        ));
        let mut under = rows.into_iter().peekable();
        let mut over = over.peekable();
        let mut page = Page { rows: Vec::new(), next: None };
        let mut bytes = 0;
        while page.rows.len() < limit && bytes < PAGE_BYTES {
            match take_first(&mut under, &mut over) {
                Some((key, Some(Taken::Stored(value)))) => {
                    bytes += row_bytes(&key, &value);
                    page.rows.push((key, unseal(path, &value)?));
                }
                Some((key, Some(Taken::Changed(value)))) => {
                    bytes += row_bytes(&key, &value);
                    page.rows.push((key, value));
                }
                Some((_, None)) => {}
                None => {
                    page.next = end.map(Cursor::after);
                    return Ok(page);
                }
            }
        }
        page.next = page.rows.last().map(|(key, _)| Cursor::after(key.clone()));
        Ok(page)
    }
}

fn row_bytes(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ROW_OVERHEAD_BYTES
}

enum Taken {
    Stored(Vec<u8>),
    Changed(Vec<u8>),
}

/// Takes the row with the lowest key; where both have it, the change counts.
fn take_first<'a>(
    under: &mut Peekable<impl Iterator<Item = (Vec<u8>, Vec<u8>)>>,
    over: &mut Peekable<impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>>,
) -> Option<(Vec<u8>, Option<Taken>)> {
    let change_first = match (under.peek(), over.peek()) {
        (Some((stored, _)), Some((changed, _))) => *changed <= stored,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if !change_first {
        return under.next().map(|(key, value)| (key, Some(Taken::Stored(value))));
    }
    let (key, value) = over.next()?;
    under.next_if(|(stored, _)| stored == key);
    Some((key.clone(), value.clone().map(Taken::Changed)))
}

/// Tables are counted from 1.
const FIRST_TABLE: u8 = 1;
