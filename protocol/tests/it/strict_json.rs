//! Hostile documents, canonical bytes, and agreement with an ordinary parser.

use proptest::prelude::*;
use protocol::strict_json::{Fault, MAX_BYTES, MAX_DEPTH, StrictJsonError, Value, parse};

const DECIMALS: &[&str] = &["price", "rates.[].amount"];

/// A document, and the fault with its offset and path; or its canonical bytes.
#[track_caller]
fn check(document: impl AsRef<[u8]>, expected: Result<&str, (Fault, usize, &str)>) {
    let document = document.as_ref();
    let found =
        parse(document, DECIMALS).map(|value| String::from_utf8(value.canonical_bytes()).unwrap());
    let expected = expected.map(str::to_owned).map_err(|(fault, offset, path)| StrictJsonError {
        fault,
        offset,
        path: path.to_owned(),
    });
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(document));
}

#[test]
fn hostile_documents_are_refused_with_place_and_reason() {
    use Fault::*;
    let cases: &[(&str, Fault, usize, &str)] = &[
        ("", Syntax("a value"), 0, ""),
        ("   ", Syntax("a value"), 3, ""),
        ("\u{feff}{}", Syntax("a value"), 0, ""),
        ("{} {}", TrailingBytes, 3, ""),
        ("{}\0", TrailingBytes, 2, ""),
        ("1 2", TrailingBytes, 2, ""),
        (r#"{"a":1,"a":2}"#, DuplicateName, 7, "a"),
        (r#"{"a":1,"\u0061":2}"#, DuplicateName, 7, "a"),
        (r#"{"o":{"b":[{"c":1,"c":1}]}}"#, DuplicateName, 18, "o.b[0].c"),
        (r#"{"a":1,}"#, Syntax("a name in quotes"), 7, ""),
        (r#"[1,]"#, Syntax("a value"), 3, "[1]"),
        (r#"{"a" 1}"#, Syntax("':'"), 5, "a"),
        (r#"{"a":1 "b":2}"#, Syntax("',' or '}'"), 7, ""),
        (r#"[1 2]"#, Syntax("',' or ']'"), 3, ""),
        (r#"{a:1}"#, Syntax("a name in quotes"), 1, ""),
        (r#"{'a':1}"#, Syntax("a name in quotes"), 1, ""),
        ("// c\n{}", Syntax("a value"), 0, ""),
        (r#"{"a":NaN}"#, Syntax("a value"), 5, "a"),
        (r#"{"a":Infinity}"#, Syntax("a value"), 5, "a"),
        (r#"{"a":nul}"#, Syntax("true, false or null"), 5, "a"),
        (r#"{"a":"#, Syntax("a value"), 5, "a"),
        (r#"{"a":"x"#, Syntax("the end of a string"), 7, "a"),
        (r#"{"a":"\x"}"#, Syntax("an escape"), 6, "a"),
        (r#"{"a":"\u12g4"}"#, Syntax("four hex digits"), 6, "a"),
        (r#"{"a":"\u12"}"#, Syntax("four hex digits"), 6, "a"),
        ("{\"a\":\"x\ny\"}", ControlCharacter, 7, "a"),
        ("{\"a\":\"x\0y\"}", ControlCharacter, 7, "a"),
        (r#"{"a":"\ud800"}"#, LoneSurrogate, 6, "a"),
        (r#"{"a":"\udc00"}"#, LoneSurrogate, 6, "a"),
        (r#"{"a":"\ud800\u0041"}"#, LoneSurrogate, 6, "a"),
        (r#"{"a":"\ud800x"}"#, LoneSurrogate, 6, "a"),
        (r#"{"a":9007199254740992}"#, NumberTooLarge, 5, "a"),
        (r#"{"a":9007199254740993}"#, NumberTooLarge, 5, "a"),
        (r#"{"a":-9007199254740992}"#, NumberTooLarge, 5, "a"),
        (r#"{"a":99999999999999999999999999}"#, NumberTooLarge, 5, "a"),
        (r#"{"a":1.0}"#, NotInteger, 5, "a"),
        (r#"{"a":1e3}"#, NotInteger, 5, "a"),
        (r#"{"a":1E-3}"#, NotInteger, 5, "a"),
        (r#"{"price":{"x":1.5}}"#, NotInteger, 14, "price.x"),
        (r#"{"x":{"price":1.5}}"#, NotInteger, 14, "x.price"),
        (r#"{"price":[1.5]}"#, NotInteger, 10, "price[0]"),
        (r#"{"rates":{"amount":1.5}}"#, NotInteger, 19, "rates.amount"),
        (r#"{"a":-0}"#, NegativeZero, 5, "a"),
        (r#"{"price":-0.0}"#, NegativeZero, 9, "price"),
        (r#"{"a":01}"#, Syntax("a number"), 5, "a"),
        (r#"{"a":-}"#, Syntax("a number"), 5, "a"),
        (r#"{"a":+1}"#, Syntax("a value"), 5, "a"),
        (r#"{"a":.5}"#, Syntax("a value"), 5, "a"),
        (r#"{"price":1.}"#, Syntax("digits after the point"), 11, "price"),
        (r#"{"price":1e}"#, Syntax("digits of the exponent"), 11, "price"),
        (r#"{"price":5e3}"#, DecimalForm, 9, "price"),
        (r#"{"price":0.1234567}"#, DecimalForm, 9, "price"),
        (r#"{"price":1234567890123456}"#, DecimalForm, 9, "price"),
        (r#"{"price":1234567890.123456}"#, DecimalForm, 9, "price"),
        (r#"{"a":"é}"#, Syntax("the end of a string"), 9, "a"),
    ];
    for (document, fault, offset, path) in cases {
        check(document, Err((*fault, *offset, path)));
    }
    check(b"{\"a\":\"\xff\"}", Err((NotUtf8, 6, "")));
    check(b"{\"a\":\"\xed\xa0\x80\"}", Err((NotUtf8, 6, "")));
    check(b"{\"a\":\"\xc0\xaf\"}", Err((NotUtf8, 6, "")));
}

#[test]
fn size_and_depth_have_their_last_good_value() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    check(nested(MAX_DEPTH), Ok(&nested(MAX_DEPTH)));
    let path = "[0]".repeat(MAX_DEPTH);
    check(nested(MAX_DEPTH + 1), Err((Fault::TooDeep, MAX_DEPTH, &path)));
    check("[".repeat(200_000), Err((Fault::TooDeep, MAX_DEPTH, &path)));

    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    check(text(MAX_BYTES), Ok(&text(MAX_BYTES)));
    check(text(MAX_BYTES + 1), Err((Fault::TooLong, MAX_BYTES, "")));
}

#[test]
fn names_of_strangers_are_cut_and_escaped_in_errors() {
    let name = format!("\\u001b[31m{}", "n".repeat(500));
    let error = parse(format!(r#"{{"{name}":1.5}}"#).as_bytes(), &[]).unwrap_err();
    assert!(error.path.starts_with("\\u{1b}[31mnnn"), "{}", error.path);
    assert!(error.path.chars().count() < 100);
    assert!(!error.to_string().chars().any(char::is_control));
}

#[test]
fn canonical_bytes_are_those_of_rfc_8785() {
    let cases = [
        (" { } ", "{}"),
        (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#"{"price":5000.0}"#, r#"{"price":5000}"#),
        (r#"{"price":5000}"#, r#"{"price":5000}"#),
        (r#"{"price":0.10}"#, r#"{"price":0.1}"#),
        (r#"{"price":0.000001}"#, r#"{"price":0.000001}"#),
        (r#"{"price":-12.5}"#, r#"{"price":-12.5}"#),
        (r#"{"price":999999999999999}"#, r#"{"price":999999999999999}"#),
        (r#"{"price":123456789.012345}"#, r#"{"price":123456789.012345}"#),
        (r#"{"rates":[{"amount":1.50}]}"#, r#"{"rates":[{"amount":1.5}]}"#),
        (r#"{"a":9007199254740991}"#, r#"{"a":9007199254740991}"#),
        (r#"{"a":-9007199254740991}"#, r#"{"a":-9007199254740991}"#),
        (r#"[true,false,null]"#, "[true,false,null]"),
        // RFC 8785, section 3.2.3: names are ordered by UTF-16 code units.
        (
            r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#,
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}",
        ),
        // RFC 8785, section 3.2.2.2: the shortest escapes.
        (r#""\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/""#, r#""€$\u000f\nA'B\"\\\\\"/""#),
    ];
    for (document, canonical) in cases {
        check(document, Ok(canonical));
        check(canonical, Ok(canonical));
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::Integer),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..8).prop_map(Value::Object),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_survives_writing_and_reading(value in any_value()) {
        prop_assert_eq!(&parse(value.to_pretty().as_bytes(), &[]).unwrap(), &value);
        let canonical = value.canonical_bytes();
        let again = parse(&canonical, &[]).unwrap();
        prop_assert_eq!(&again, &value);
        prop_assert_eq!(again.canonical_bytes(), canonical);
    }

    #[test]
    fn a_decimal_survives_its_canonical_bytes(
        units in -999_999_999_i64..=999_999_999, scale in 0_u32..=6,
    ) {
        let written = rust_decimal::Decimal::new(units, scale);
        let document = format!(r#"{{"price":{written}}}"#);
        // "-0.00" is what Decimal writes for no amount of money here: units is never "-0".
        let value = parse(document.as_bytes(), DECIMALS).unwrap();
        let again = parse(&value.canonical_bytes(), DECIMALS).unwrap();
        prop_assert_eq!(&again, &value);
        let Value::Object(fields) = again else { unreachable!() };
        prop_assert_eq!(&fields["price"], &Value::Decimal(written.normalize()));
    }

    /// What the strict loader takes, an ordinary parser takes too, with the same meaning.
    #[test]
    fn the_strict_loader_agrees_with_an_ordinary_parser(
        document in r#"[\[\]{}",:0-9a\\utrflse.\- eE]{0,40}"#,
    ) {
        if let Ok(value) = parse(document.as_bytes(), &[]) {
            let ordinary: serde_json::Value = serde_json::from_str(&document).unwrap();
            let strict: serde_json::Value = serde_json::from_str(&value.to_pretty()).unwrap();
            prop_assert_eq!(ordinary, strict);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _refused = parse(&bytes, DECIMALS);
    }
}
