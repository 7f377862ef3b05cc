//! Packages, keys and strict JSON.

use anyhow::{Context, Result, ensure};
use protocol::cloud::admin::ImportRequest;
use protocol::device::time::LicenseTime;
use protocol::keys::{Fingerprint, PrivateKey, PublicKey};
use protocol::package::{
    LicensePackage, PackageSignature, UnverifiedPackage, sample_document, sign_document,
    version_matches,
};
use protocol::strict_json;
use protocol::wire::UtcTime;

use super::bodies::text;
use super::{Decoder, Family, Origin, Verdict, samples};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let key = samples::ed25519();
    Ok(vec![
        strict_json_values(),
        package(&key)?,
        import(&key)?,
        public_key_pem(&key)?,
        public_key_der(&key)?,
        private_key(&key)?,
        version_range(),
        text::<Fingerprint>(
            "key-fingerprint",
            Family::Documents,
            &[&key.public_key()?.fingerprint().to_string()],
        ),
        text::<PackageSignature>(
            "package-signature",
            Family::Documents,
            &[UnverifiedPackage::parse(&signed(&key)?[0])?.signature().unwrap_or_default()],
        ),
        text::<UtcTime>(
            "time",
            Family::Documents,
            &["2026-11-22T10:36:14Z", "2026-11-22T10:36:14.125Z", "1970-01-01T00:00:00+00:00"],
        ),
        text::<LicenseTime>(
            "device-time",
            Family::Documents,
            &["2026-11-22T05:28:15.371830493Z", "0001-01-01T00:00:00Z"],
        ),
    ])
}

fn strict_json_values() -> Decoder {
    let examples = [
        r#"{"a":[1,-2,9007199254740991],"d":12.345,"s":"\u00e9\ud83d\ude00\n","n":null,"t":true}"#,
        r#"{"list":[{"d":0.000001},{"d":100}],"nested":{"x":{"y":{"z":[[[]]]}}}}"#,
        "[\"\\\"\\\\/\\b\\f\"]",
        " 7 ",
    ];
    let examples = examples.iter().map(|text| text.as_bytes().to_vec()).collect();
    Decoder::new("strict-json", Family::Documents, examples, |bytes, _| {
        let Ok(value) = strict_json::parse(bytes, DECIMALS) else { return Ok(Verdict::Refused) };
        let canonical = value.canonical_bytes();
        let again = strict_json::parse(&canonical, DECIMALS)?;
        ensure!(again == value, "the canonical bytes have another meaning: {value:?}, {again:?}");
        ensure!(again.canonical_bytes() == canonical, "the canonical bytes are not the last");
        let ordinary: serde_json::Value = serde_json::from_slice(bytes)?;
        let canonical: serde_json::Value = serde_json::from_slice(&canonical)?;
        let same = in_doubles(ordinary) == in_doubles(canonical);
        ensure!(same, "an ordinary reader sees another document");
        Ok(Verdict::Accepted)
    })
}

/// Every number as a double, so that `100.0` is `100`.
fn in_doubles(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(values) => values.into_iter().map(in_doubles).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, in_doubles(value))).collect()
        }
        other => other,
    }
}

/// The sample in both layouts, with and without policy, signed.
fn signed(key: &PrivateKey) -> Result<Vec<Vec<u8>>> {
    let policy = [("lease_ttl_seconds", 900), ("offline_skew_seconds", 600)];
    let (from, until) = (samples::NOW_MS - 1_000, samples::NOW_MS + 1_000_000);
    let mut documents = vec![sample_document(from, until, &policy)];
    documents.push(sample_document(from, until, &[]));
    let standard = UnverifiedPackage::parse(documents[0].as_bytes())?.package().to_standard();
    documents.push(standard.to_pretty());
    documents.into_iter().map(|text| Ok(sign_document(text.as_bytes(), key)?.into())).collect()
}

fn package(key: &PrivateKey) -> Result<Decoder> {
    let examples = signed(key)?;
    let canonical = |bytes: &Vec<u8>| Ok(UnverifiedPackage::parse(bytes)?.canonical().to_vec());
    let known: Vec<Vec<u8>> = examples.iter().map(canonical).collect::<Result<_>>()?;
    let pinned = key.public_key()?;
    let signer = samples::ed25519();
    let check = move |bytes: &[u8], origin| {
        let Ok(document) = UnverifiedPackage::parse(bytes) else { return Ok(Verdict::Refused) };
        let stored = LicensePackage::from_canonical(document.canonical())
            .context("what would be stored cannot be read again")?;
        ensure!(stored == *document.package(), "the stored package is another one");
        let Ok(verified) = document.verify(&pinned, None) else { return Ok(Verdict::Refused) };
        ensure!(verified.package == stored, "verifying changed the package");
        if origin == Origin::AsFound {
            let known = known.contains(&verified.canonical);
            ensure!(known, "believed though nobody signed it: {:?}", verified.package);
        }
        Ok(Verdict::Accepted)
    };
    Ok(Decoder::new("package", Family::Documents, examples, check)
        .mended_by(move |bytes| Some(sign_document(bytes, &signer).ok()?.into_bytes())))
}

fn import(key: &PrivateKey) -> Result<Decoder> {
    let pem = serde_json::to_string(&key.public_key()?.to_pem())?;
    let bodies = signed(key)?.into_iter().map(|package| {
        let package = String::from_utf8_lossy(&package).into_owned();
        format!(r#"{{"package":{package},"vendor_public_key":{pem}}}"#).into_bytes()
    });
    Ok(Decoder::new("import-body", Family::Documents, bodies.collect(), |bytes, _| {
        Ok(Verdict::of(&ImportRequest::from_body(bytes)))
    }))
}

fn public_key_pem(key: &PrivateKey) -> Result<Decoder> {
    let keys = [key.public_key()?, samples::rsa()?.public_key()?];
    let examples = keys.iter().map(|key| key.to_pem().into_bytes()).collect();
    Ok(Decoder::new("public-key-pem", Family::Documents, examples, |bytes, _| {
        let Ok(key) = std::str::from_utf8(bytes)
            .map_err(drop)
            .and_then(|text| PublicKey::from_pem(text).map_err(drop))
        else {
            return Ok(Verdict::Refused);
        };
        ensure!(PublicKey::from_pem(&key.to_pem())? == key, "the key reads back as another one");
        Ok(Verdict::Accepted)
    }))
}

fn public_key_der(key: &PrivateKey) -> Result<Decoder> {
    let keys = [key.public_key()?, samples::rsa()?.public_key()?];
    let examples = keys.iter().map(|key| key.spki_der().to_vec()).collect();
    Ok(Decoder::new("public-key-der", Family::Documents, examples, |bytes, _| {
        let Ok(key) = PublicKey::from_spki_der(bytes) else { return Ok(Verdict::Refused) };
        ensure!(key.spki_der() == bytes, "one key has two encodings");
        // Hostile numbers in a key must not upset whoever uses it.
        ensure!(key.verify(b"message", &[7; 256]).is_err(), "a made-up signature verified");
        Ok(Verdict::Accepted)
    }))
}

fn private_key(key: &PrivateKey) -> Result<Decoder> {
    let rsa = samples::rsa()?;
    let pem = |key: &PrivateKey| Ok(key.to_pkcs8_pem()?.expose().clone().into_bytes());
    let examples: Vec<Vec<u8>> = [key, &rsa].into_iter().map(pem).collect::<Result<_>>()?;
    Ok(Decoder::new("private-key", Family::Documents, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let _another_form = PrivateKey::from_pkcs1_pem(&text);
        let Ok(key) = PrivateKey::from_pkcs8_pem(&text) else { return Ok(Verdict::Refused) };
        let public = key.public_key()?;
        let signature = key.sign(b"message")?;
        ensure!(public.verify(b"message", &signature).is_ok(), "it does not fit its public half");
        Ok(Verdict::Accepted)
    }))
}

fn version_range() -> Decoder {
    let examples = [">=8.0.0", "*", "^8.1, <9", "8.0.0 - 8.9.9", "~8.2"];
    let takes = |text: &&&str| version_matches(text, "8.2.1").is_ok();
    let examples = examples.iter().filter(takes).map(|text| text.as_bytes().to_vec()).collect();
    Decoder::new("version-range", Family::Documents, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let first = version_matches(&text, "8.2.1");
        // The same text as the version that is asked about.
        let _any = version_matches(">=8.0.0", &text);
        ensure!(first == version_matches(&text, "8.2.1"), "two answers to one question");
        Ok(Verdict::of(&first))
    })
}

const DECIMALS: &[&str] = &["d", "list.[].d"];
