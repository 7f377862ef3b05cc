//! How an example is changed: bytes, numbers, texts, JSON, and what hides inside base64 and hex.
//!
//! Every choice comes from one generator, so that an input is repeated from its seed alone.
//! What it leaves to others: sums and signatures ([`super::Decoder::mend`]).

mod text;

use storage::testing::SeededEntropy;

/// Draws choices.
pub(crate) struct Dice(SeededEntropy);

impl Dice {
    /// The dice of one iteration of one decoder under one seed.
    pub(crate) fn of(seed: u64, decoder: &str, iteration: u64) -> Self {
        let mut state = seed;
        for byte in decoder.bytes().chain(iteration.to_le_bytes()) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(SeededEntropy::new(state))
    }

    /// A number below `bound`; 0 when there is none.
    pub(crate) fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.below(bound as u64) as usize }
    }

    /// Whether one of `chances` came.
    pub(crate) fn one_in(&self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// One of a list, which must not be empty.
    pub(crate) fn pick<'a, T>(&self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn byte(&self) -> u8 {
        self.below(256) as u8
    }

    /// A piece of `length` bytes: where it starts and ends.
    fn range(&self, length: usize) -> (usize, usize) {
        let start = self.below(length);
        let most = if self.one_in(4) { length - start } else { (length - start).min(24) };
        (start, (start + 1 + self.below(most)).min(length))
    }
}

/// A changed input: one to four changes of one of the examples.
pub(crate) fn mutate(dice: &Dice, examples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = dice.pick(examples).clone();
    for _ in 0..=dice.below(4).min(dice.below(4)) {
        change(dice, &mut bytes, examples);
        bytes.truncate(MAX_INPUT_BYTES);
    }
    bytes
}

fn change(dice: &Dice, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
    // What is text is mostly changed as text; what is not gains nothing from it.
    if dice.below(3) > 0 && text::change(dice, bytes) {
        return;
    }
    match dice.below(10) {
        0 | 1 => flip_bit(dice, bytes),
        2 => set_byte(dice, bytes),
        3 => bytes.truncate(dice.below(bytes.len() + 1)),
        4 => extend(dice, bytes),
        5 => splice(dice, bytes, dice.pick::<Vec<u8>>(examples)),
        6 => double(dice, bytes),
        7 => remove(dice, bytes),
        _ => number_edge(dice, bytes),
    }
}

fn flip_bit(dice: &Dice, bytes: &mut [u8]) {
    let (at, bit) = (dice.below(bytes.len()), dice.below(8));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn set_byte(dice: &Dice, bytes: &mut [u8]) {
    let (at, value) = (dice.below(bytes.len()), dice.byte());
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn extend(dice: &Dice, bytes: &mut Vec<u8>) {
    let length = 1 + dice.below(if dice.one_in(50) { 100_000 } else { 40 });
    let filler = if dice.one_in(2) { Some(*dice.pick(b"\0\xff 0a=")) } else { None };
    bytes.extend((0..length).map(|_| filler.unwrap_or_else(|| dice.byte())));
}

fn splice(dice: &Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let (kept, from) = (dice.below(bytes.len() + 1), dice.below(other.len() + 1));
    bytes.truncate(kept);
    bytes.extend_from_slice(&other[from..]);
}

fn double(dice: &Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let (start, end) = dice.range(bytes.len());
    let piece = bytes[start..end].repeat(if dice.one_in(40) { 500 } else { 1 });
    let at = if dice.one_in(2) { end } else { dice.below(bytes.len() + 1) };
    bytes.splice(at..at, piece);
}

fn remove(dice: &Dice, bytes: &mut Vec<u8>) {
    if !bytes.is_empty() {
        let (start, end) = dice.range(bytes.len());
        bytes.drain(start..end);
    }
}

/// Writes a number that lengths and counts go wrong at: fixed widths in both orders, and the
/// markers by which bincode says how wide a number is.
fn number_edge(dice: &Dice, bytes: &mut Vec<u8>) {
    let edge = *dice.pick(&NUMBER_EDGES);
    let near = (bytes.len() as u64).wrapping_add(dice.below(5) as u64).wrapping_sub(2);
    let number = if dice.one_in(3) { near } else { edge };
    let little = number.to_le_bytes();
    let big = number.to_be_bytes();
    let width = *dice.pick(&[1, 2, 4, 8]);
    let mut new = match dice.below(3) {
        0 => little[..width].to_vec(),
        1 => big[8 - width..].to_vec(),
        _ => {
            let marked = [(251, 2), (252, 4), (253, 8)];
            let (marker, width) = *dice.pick(&marked);
            [&[marker][..], &little[..width]].concat()
        }
    };
    let at = dice.below(bytes.len() + 1);
    let over = if dice.one_in(4) { 0 } else { new.len().min(bytes.len() - at) };
    if over > 0 {
        new.truncate(over);
    }
    bytes.splice(at..at + over, new);
}

/// Longest input; above it nothing is learnt, since every body, file and frame of the kinds here
/// has a lower bound.
const MAX_INPUT_BYTES: usize = 3 * 1024 * 1024;

const NUMBER_EDGES: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xfa,
    0xff,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x003f_ffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x0001_0000_0000,
    (1 << 53) + 1,
    i64::MAX as u64,
    u64::MAX,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_input_and_another_one_another() {
        let examples = vec![br#"{"a":1,"b":"c"}"#.to_vec(), b"abcdef0123456789".to_vec()];
        let input = |seed, iteration| mutate(&Dice::of(seed, "x", iteration), &examples);
        let all = |seed| (0..200).map(|iteration| input(seed, iteration)).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn nothing_is_too_short_to_change() {
        for iteration in 0..2_000 {
            mutate(&Dice::of(1, "empty", iteration), &[Vec::new(), vec![b'{']]);
        }
    }
}
