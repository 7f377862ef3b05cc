//! What the ledger stores and sends: entries, outcomes, rows of every table, blocks.
//!
//! Rows are given as table, length of the key, key and value, so that a change may fall on the key
//! too. Each is loaded behind the rows of lower tables that it may refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use lease::entry::Entry;
use lease::format::{self, HEADER_BYTES, Kind};
use lease::outcome::Outcome;
use lease::rows::table;
use lease::{Ledger, decode_audit_block};

use super::{Decoder, Family, Origin, Verdict, samples};

mod rows;

/// A stored row: table, key, value.
type Row = (u8, Vec<u8>, Vec<u8>);
type RowBytes<'a> = (u8, &'a [u8], &'a [u8]);

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let rows = every_row()?;
    let mut decoders = vec![entries()?, outcomes()?, audit_blocks(&rows), whole_ledger(&rows)];
    let mut tables: BTreeMap<u8, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        tables.entry(row.0).or_default().push(row);
    }
    let rows = Arc::new(rows.clone());
    for (number, name) in TABLES {
        if *number != table::AUDIT {
            let of_table = tables.get(number).with_context(|| format!("no row of {name}"))?;
            decoders.push(row_of_table(name, *number, of_table, &rows));
        }
    }
    Ok(decoders)
}

/// The golden rows, and one of every table that they lack.
fn every_row() -> Result<Vec<Row>> {
    let mut all = golden_rows("rows-v1.hex")?;
    let of_operating = golden_rows("operate-rows-v1.hex")?;
    all.extend(of_operating.into_iter().filter(|row| row.0 >= table::TICKET));
    let found: Vec<u8> = all.iter().map(|row| row.0).collect();
    let missing = rows::made().into_iter().filter(|row| !found.contains(&row.0));
    all.extend(missing);
    all.sort();
    Ok(all)
}

fn golden_rows(name: &str) -> Result<Vec<Row>> {
    let text = samples::golden(name)?;
    let rows = text.lines().map(|line| {
        let mut words = line.split(' ');
        let mut next = || words.next().context("table, key and value");
        Ok((next()?.parse()?, hex(next()?)?, hex(next()?)?))
    });
    rows.collect()
}

fn hex(text: &str) -> Result<Vec<u8>> {
    HEXLOWER.decode(text.trim().as_bytes()).context("a golden file holds hex")
}

fn golden_lines(name: &str) -> Result<Vec<Vec<u8>>> {
    samples::golden(name)?.lines().map(hex).collect()
}

/// A frame that differs from an example in one byte: its sum must have found that.
pub(super) fn is_one_byte_off(bytes: &[u8], examples: &[Vec<u8>]) -> bool {
    let differing = |example: &Vec<u8>| {
        example.len() == bytes.len()
            && example.iter().zip(bytes).filter(|(old, new)| old != new).count() == 1
    };
    examples.iter().any(differing)
}

fn entries() -> Result<Decoder> {
    let mut examples = golden_lines("entries-v1.hex")?;
    examples.extend(golden_lines("operate-entries-v1.hex")?);
    let known = examples.clone();
    Ok(Decoder::new("entry", Family::Ledger, examples, move |bytes, origin| {
        let Ok(entry) = Entry::decode(bytes) else { return Ok(Verdict::Refused) };
        let found = origin == Origin::Mended || !is_one_byte_off(bytes, &known);
        ensure!(found, "a changed byte went unseen");
        let again = Entry::decode(&entry.encode()).context("cannot be read again")?;
        ensure!(again == entry, "reads back differently");
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| Some(mended_frame(bytes))))
}

fn outcomes() -> Result<Decoder> {
    let mut examples = golden_lines("outcomes-v1.hex")?;
    examples.extend(golden_lines("operate-outcomes-v1.hex")?);
    let known = examples.clone();
    Ok(Decoder::new("outcomes", Family::Ledger, examples, move |bytes, origin| {
        let read = |bytes: &[u8]| format::decode::<Vec<Vec<Outcome>>>(Kind::Outcomes, 1, bytes);
        let Ok(outcomes) = read(bytes) else { return Ok(Verdict::Refused) };
        let found = origin == Origin::Mended || !is_one_byte_off(bytes, &known);
        ensure!(found, "a changed byte went unseen");
        let again = read(&format::encode(Kind::Outcomes, 1, &outcomes))?;
        ensure!(again == outcomes, "reads back differently");
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| Some(mended_frame(bytes))))
}

fn audit_blocks(rows: &[Row]) -> Decoder {
    let blocks = rows.iter().filter(|row| row.0 == table::AUDIT);
    let examples: Vec<Vec<u8>> = blocks.map(|row| row.2.clone()).collect();
    let known = examples.clone();
    Decoder::new("audit-block", Family::Ledger, examples, move |bytes, origin| {
        let Ok(events) = decode_audit_block(bytes) else { return Ok(Verdict::Refused) };
        let found = origin == Origin::Mended || !is_one_byte_off(bytes, &known);
        ensure!(found, "a changed byte went unseen");
        if let Some(first) = events.first() {
            let before = lease::AuditHead { seq: first.seq.wrapping_sub(1), hash: first.previous };
            let _broken = lease::verify_chain(before, &events);
        }
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| Some(mended_frame(bytes)))
}

fn row_of_table(name: &'static str, number: u8, own: &[&Row], rows: &Arc<Vec<Row>>) -> Decoder {
    let examples: Vec<Vec<u8>> = own.iter().map(|row| packed(row)).collect();
    let values: Vec<Vec<u8>> = own.iter().map(|row| row.2.clone()).collect();
    let rows = Arc::clone(rows);
    Decoder::new(name, Family::Ledger, examples, move |bytes, origin| {
        let Some((found, key, value)) = unpacked(bytes) else { return Ok(Verdict::Refused) };
        let mut ledger = Ledger::new();
        for (table, key, value) in rows.iter().filter(|row| row.0 < found && row.0 < number) {
            ledger.load_row(*table, key, value)?;
        }
        if found == table::AUDIT || ledger.load_row(found, key, value).is_err() {
            return Ok(Verdict::Refused);
        }
        let unseen = origin == Origin::AsFound && is_one_byte_off(value, &values);
        ensure!(!unseen, "a changed byte of the value went unseen");
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| {
        let (_, _, value) = unpacked(bytes)?;
        let front = &bytes[..bytes.len() - value.len()];
        Some([front, &mended_frame(value)].concat())
    })
}

/// All rows of a ledger, end to end, as a node loads them at a start.
fn whole_ledger(rows: &[Row]) -> Decoder {
    let golden = rows.iter().filter(|row| row.0 <= table::REQUEST).cloned();
    let examples = vec![packed_all(golden.collect::<Vec<_>>().iter())];
    Decoder::new("whole-ledger", Family::Ledger, examples, |bytes, _| {
        let mut ledger = Ledger::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((row, after)) = next_row(rest) else { return Ok(Verdict::Refused) };
            if ledger.load_row(row.0, row.1, row.2).is_err() {
                return Ok(Verdict::Refused);
            }
            rest = after;
        }
        if ledger.finish_load().is_err() {
            return Ok(Verdict::Refused);
        }
        for package in ledger.packages() {
            let _seats = package.seats();
        }
        let _due = ledger.next_due();
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| {
        let (mut out, mut rest) = (Vec::new(), bytes);
        while let Some((row, after)) = next_row(rest) {
            let value = mended_frame(row.2);
            out.extend(packed_all([(row.0, row.1.to_vec(), value)].iter()));
            rest = after;
        }
        Some(out)
    })
}

/// Table, length of the key, key, value to the end.
fn packed(row: &Row) -> Vec<u8> {
    let key_len = u8::try_from(row.1.len()).unwrap_or(u8::MAX);
    [&[row.0, key_len][..], &row.1, &row.2].concat()
}

fn unpacked(bytes: &[u8]) -> Option<RowBytes<'_>> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (key, value) = rest.split_at_checked(usize::from(head[1]))?;
    Some((head[0], key, value))
}

fn packed_all<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<u8> {
    rows.flat_map(|row| {
        let one = packed(row);
        let length = u32::try_from(one.len()).unwrap_or(u32::MAX).to_le_bytes();
        [length.to_vec(), one].concat()
    })
    .collect()
}

fn next_row(bytes: &[u8]) -> Option<(RowBytes<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (one, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((unpacked(one)?, rest))
}

/// Magic, length and sum put right; kind, version and body as they are.
pub(super) fn mended_frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    if let Some(body) = frame.len().checked_sub(HEADER_BYTES) {
        frame[..2].copy_from_slice(b"LH");
        frame[4..8].copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&frame[..8]), &frame[HEADER_BYTES..]);
        frame[8..12].copy_from_slice(&sum.to_le_bytes());
    }
    frame
}

/// Every table, under the name of its decoder.
const TABLES: &[(u8, &str)] = &[
    (table::META, "row-meta"),
    (table::MEMBER, "row-member"),
    (table::SIGNING_KEY, "row-signing-key"),
    (table::SECRET, "row-secret"),
    (table::WRAPPED_KEY, "row-wrapped-key"),
    (table::OPERATOR, "row-operator"),
    (table::VENDOR, "row-vendor"),
    (table::APP, "row-app"),
    (table::PACKAGE, "row-package"),
    (table::DOCUMENT, "row-document"),
    (table::POOL, "row-pool"),
    (table::USAGE, "row-usage"),
    (table::FEATURE_USAGE, "row-feature-usage"),
    (table::LEASE, "row-lease"),
    (table::SUBJECT, "row-subject"),
    (table::REFUSAL, "row-refusal"),
    (table::REFUSAL_LOGGED, "row-refusal-logged"),
    (table::AUDIT, "audit-block"),
    (table::REQUEST, "row-request-block"),
    (table::LICENSE, "row-license"),
    (table::ACTIVATION, "row-activation"),
    (table::CLIENT, "row-client"),
    (table::PRODUCT, "row-product"),
    (table::USER, "row-user"),
    (table::TRIAL, "row-trial"),
    (table::IDENTITY, "row-identity"),
    (table::GUESS, "row-guess"),
    (table::LICENSE_USAGE, "row-license-usage"),
    (table::HOLD, "row-hold"),
    (table::OFFLINE_TERMS, "row-offline-terms"),
    (table::BORROW_RULES, "row-borrow-rules"),
    (table::KEY_WINDOW, "row-key-window"),
    (table::API_KEY, "row-api-key"),
    (table::BUDGET, "row-budget"),
    (table::TICKET, "row-ticket"),
    (table::FORMER_MEMBER, "row-former-member"),
    (table::RETIRED_KEY, "row-retired-key"),
    (table::GRACE, "row-grace"),
    (table::RESERVED, "row-reserved"),
    (table::ALARM, "row-alarm"),
    (table::POOL_RULE, "row-pool-rule"),
    (table::POOL_USAGE, "row-pool-usage"),
    (table::AUDIT_FLOOR, "row-audit-floor"),
    (table::APP_POLICY, "row-app-policy"),
    (table::TRUST_ANCHOR, "row-trust-anchor"),
    (table::FORMER_EPOCH, "row-former-epoch"),
];
