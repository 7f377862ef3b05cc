//! Changes that know texts: JSON, numbers in digits, base64 and hex with something inside.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use data_encoding::HEXLOWER;

use super::{Dice, set_byte};

/// Changes a text; `false` when the bytes have nothing that the chosen change is for.
pub(super) fn change(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    match dice.below(8) {
        0 | 1 => encoded(dice, bytes),
        2 => digits(dice, bytes),
        3 => value(dice, bytes),
        4 => member(dice, bytes),
        5 => inside_string(dice, bytes),
        6 => space(dice, bytes),
        _ => case(dice, bytes),
    }
}

/// Runs of bytes that satisfy `fits`, of at least `least`.
fn runs(bytes: &[u8], least: usize, fits: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for at in 0..=bytes.len() {
        match (bytes.get(at).is_some_and(|byte| fits(*byte)), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                if at - from >= least {
                    found.push((from, at));
                }
                start = None;
            }
            _ => {}
        }
    }
    found
}

fn one(dice: &Dice, runs: &[(usize, usize)]) -> Option<(usize, usize)> {
    (!runs.is_empty()).then(|| *dice.pick(runs))
}

/// Changes what a run of hex or base64 holds, or how it is spelt.
fn encoded(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    let Some((start, end)) = one(dice, &runs(bytes, 8, word)) else { return false };
    let run = &bytes[start..end];
    let new = if let (Ok(inside), true) = (HEXLOWER.decode(run), dice.below(4) > 0) {
        HEXLOWER.encode(&changed_inside(dice, inside)).into_bytes()
    } else {
        let alphabet = if dice.one_in(2) { alphabet::STANDARD } else { alphabet::URL_SAFE };
        let config = GeneralPurposeConfig::new()
            .with_encode_padding(run.ends_with(b"="))
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&alphabet, config);
        match engine.decode(run) {
            Ok(inside) if dice.below(5) > 0 => {
                engine.encode(changed_inside(dice, inside)).into_bytes()
            }
            _ => respelt(dice, run.to_vec()),
        }
    };
    bytes.splice(start..end, new);
    true
}

fn changed_inside(dice: &Dice, mut inside: Vec<u8>) -> Vec<u8> {
    let is_json = inside.first() == Some(&b'{');
    if !(is_json && plain_change(dice, &mut inside)) {
        match dice.below(5) {
            0 => inside.truncate(dice.below(inside.len() + 1)),
            1 => inside.push(dice.byte()),
            2 => drop(inside.pop()),
            _ => set_byte(dice, &mut inside),
        }
    }
    inside
}

/// As [`change`], without looking for encodings inside an encoding.
fn plain_change(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    match dice.below(5) {
        0 => digits(dice, bytes),
        1 => value(dice, bytes),
        2 => member(dice, bytes),
        3 => inside_string(dice, bytes),
        _ => space(dice, bytes),
    }
}

/// The same bytes under another spelling, or nearly: bits past the end, padding, length.
fn respelt(dice: &Dice, mut run: Vec<u8>) -> Vec<u8> {
    match dice.below(5) {
        0 => run.push(b'='),
        1 => drop(run.pop()),
        2 => run.push(*dice.pick(b"Aa0_")),
        3 => run.make_ascii_uppercase(),
        _ => {
            if let Some(last) = run.last_mut() {
                *last = last.wrapping_add(1);
            }
        }
    }
    run
}

/// Puts a number there that readers disagree about or lengths go wrong at.
fn digits(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    let runs = runs(bytes, 1, |byte| byte.is_ascii_digit());
    let Some((start, end)) = one(dice, &runs) else { return false };
    let new = if dice.one_in(20) { "9".repeat(400) } else { (*dice.pick(NUMBERS)).to_owned() };
    bytes.splice(start..end, new.into_bytes());
    true
}

/// Replaces what follows a colon, or nests it deeply.
fn value(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    let Some((_, start)) = one(dice, &runs(bytes, 1, |byte| byte == b':')) else { return false };
    let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b'\n');
    let length = bytes[start..].iter().position(is_end).unwrap_or(bytes.len() - start);
    let new = match dice.below(6) {
        0 => {
            let depth = *dice.pick(&[1, 31, 32, 33, 127, 128, 129, 20_000]);
            let (open, close) = *dice.pick(&[("[", "]"), ("{\"a\":", "}")]);
            let inside = if open == "[" { "" } else { "1" };
            [&open.repeat(depth), inside, &close.repeat(depth)].concat()
        }
        _ => (*dice.pick(VALUES)).to_owned(),
    };
    bytes.splice(start..start + length, new.into_bytes());
    true
}

/// Doubles, renames or adds a member of an object.
fn member(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    let Some((_, at)) = one(dice, &runs(bytes, 1, |byte| matches!(byte, b'{' | b','))) else {
        return false;
    };
    let is_end = |byte: &u8| matches!(byte, b',' | b'}');
    let length = bytes[at..].iter().position(is_end).unwrap_or(bytes.len() - at);
    let piece = bytes[at..at + length].to_vec();
    match dice.below(4) {
        0 => {
            let new = [&piece[..], b","].concat();
            bytes.splice(at..at, new);
        }
        1 => {
            let end = (at + length + 1).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => {
            // The same name with an escape in it is still the same name.
            let escaped = String::from_utf8_lossy(&piece).replacen('e', "\\u0065", 1);
            let new = [escaped.as_bytes(), b","].concat();
            bytes.splice(at..at, new);
        }
        _ => {
            let new = *dice.pick(&["\"unknown\":1,", "\"x_own\":{\"a\":[1]},", "\"\":null,"]);
            bytes.splice(at..at, new.bytes());
        }
    }
    true
}

/// Puts something into a string that texts go wrong at.
fn inside_string(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    let letters = runs(bytes, 1, |byte| byte.is_ascii_alphanumeric());
    let Some((start, end)) = one(dice, &letters) else { return false };
    let at = start + dice.below(end - start + 1);
    let new = if dice.one_in(20) {
        "a".repeat(*dice.pick(&[255, 256, 257, 5_000, 70_000]))
    } else {
        (*dice.pick(TEXTS)).to_owned()
    };
    bytes.splice(at..at, new.into_bytes());
    true
}

/// Space where JSON allows it, and where nothing does.
fn space(dice: &Dice, bytes: &mut Vec<u8>) -> bool {
    let places = runs(bytes, 1, |byte| matches!(byte, b'{' | b'}' | b',' | b':' | b'['));
    let Some((_, at)) = one(dice, &places) else { return false };
    let new = *dice.pick(&[" ", "\n", "\t\r\n  ", "\u{a0}", "\u{feff}", "\0", "/**/"]);
    bytes.splice(at..at, new.bytes());
    true
}

fn case(dice: &Dice, bytes: &mut [u8]) -> bool {
    let letters = runs(bytes, 1, |byte| byte.is_ascii_alphabetic());
    let Some((start, end)) = one(dice, &letters) else { return false };
    for byte in &mut bytes[start..end] {
        *byte ^= 0x20;
    }
    true
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "00",
    "1.5",
    "0.1000",
    "1e3",
    "1E+308",
    "1e999",
    "1e-999",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "99999999999999999999.999999999999999999999",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:60Z",
];

const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e400",
    "\"\"",
    "\" \"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "{\"a\":null}",
    "NaN",
    "'a'",
    "\"\\u0000\"",
    "18446744073709551616",
];

const TEXTS: &[&str] = &[
    "\\ud800",
    "\\udc00\\ud800",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\q",
    "\u{202e}",
    "\u{feff}",
    "\u{1f600}",
    "\u{e9}",
    "\u{130}",
    "\u{df}",
    "\0",
    "\n",
    "\u{7f}",
    "\"",
    "\\",
    "%00",
    "%zz",
    "&a=b",
    "..",
    "/",
    " ",
    "\t",
];
