//! The token endpoint's form, scopes, keys and claims.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::keys::PublicKey;
use protocol::oauth::claims::{AccessClaims, Confirmation, Jwk, ServerMetadata, key_id};
use protocol::oauth::token::{BearerError, TokenError, TokenRequest, TokenResponse};
use protocol::oauth::{Scope, Scopes, UnknownScope};

use crate::keys::{ED25519_PUBLIC, RSA_PUBLIC};

/// What a form becomes: client id, secret, scopes; or the error's code.
#[track_caller]
fn check(form: &str, authorization: Option<&str>, expected: Result<(&str, &str, &str), &str>) {
    let found = TokenRequest::from_form(form.as_bytes(), authorization)
        .map(|request| {
            let scopes = request.scopes.map_or("none".to_owned(), |scopes| scopes.to_string());
            assert_eq!(request.by_header, authorization.is_some());
            (request.client_id.clone(), request.client_secret.expose().clone(), scopes)
        })
        .map_err(TokenError::code);
    let expected =
        expected.map(|(id, secret, scopes)| (id.to_owned(), secret.to_owned(), scopes.to_owned()));
    assert_eq!(found, expected, "{form} {authorization:?}");
}

#[test]
fn credentials_come_in_the_form_or_in_the_header() {
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let grant = "grant_type=client_credentials";
    let in_form = format!("{grant}&client_id=davinci-bmw-client&client_secret=secret_abc123");
    let both = "license:checkout license:return";
    check(
        &format!("{in_form}&scope=license:checkout license:return"),
        None,
        Ok(("davinci-bmw-client", "secret_abc123", both)),
    );
    check(
        &format!("{in_form}&scope=license%3Areturn+license%3Acheckout"),
        None,
        Ok(("davinci-bmw-client", "secret_abc123", both)),
    );
    check(&in_form, None, Ok(("davinci-bmw-client", "secret_abc123", "none")));
    check(&format!("{in_form}&scope="), None, Ok(("davinci-bmw-client", "secret_abc123", "none")));
    check(
        &format!("{in_form}&audience=x"),
        None,
        Ok(("davinci-bmw-client", "secret_abc123", "none")),
    );
    check(grant, Some(&basic("a:b:c")), Ok(("a", "b:c", "none")));
    check(grant, Some(&basic("a%2Db:%26+x")), Ok(("a-b", "& x", "none")));
    check(grant, Some(&basic("a:b").replace("Basic", "basic")), Ok(("a", "b", "none")));
    check(&format!("{grant}&client_id=a"), Some(&basic("a:b")), Ok(("a", "b", "none")));
    check(
        &format!("{grant}&client_id=a&client_secret="),
        Some(&basic("a:b")),
        Ok(("a", "b", "none")),
    );

    check(&format!("{grant}&client_id=x"), Some(&basic("a:b")), Err("invalid_request"));
    check(&in_form, Some(&basic("a:b")), Err("invalid_request"));
    check(grant, Some("Basic !!!"), Err("invalid_request"));
    check(grant, Some("Basic"), Err("invalid_request"));
    check(grant, Some("Bearer abc"), Err("invalid_request"));
    check(grant, Some(&basic("nocolon")), Err("invalid_request"));
    check(grant, Some(&basic("a b:c")), Err("invalid_client"));
    check("", None, Err("invalid_request"));
    check("grant_type=", None, Err("invalid_request"));
    check("grant_type=password&username=a&password=b", None, Err("unsupported_grant_type"));
    check(
        "grant_type=client_credentials&grant_type=client_credentials",
        None,
        Err("invalid_request"),
    );
    check(&format!("{in_form}&client_id=b"), None, Err("invalid_request"));
    check(grant, None, Err("invalid_client"));
    check(&format!("{grant}&client_id=a"), None, Err("invalid_request"));
    check(&format!("{grant}&client_secret=a"), None, Err("invalid_request"));
    check(&format!("{in_form}&scope=license:admin"), None, Err("invalid_scope"));
    check(&format!("{in_form}&scope=%zz"), None, Err("invalid_request"));
    check(&format!("{in_form}&scope=%ff"), None, Err("invalid_request"));
    check(&format!("{in_form}&scope=%4"), None, Err("invalid_request"));
    check(&format!("{in_form}&x={}", "y".repeat(9_000)), None, Err("invalid_request"));
    check(
        &format!("{grant}&client_id=a&client_secret={}", "y".repeat(300)),
        None,
        Err("invalid_client"),
    );
}

#[test]
fn errors_have_their_status_and_body() {
    for (error, status) in [
        (TokenError::InvalidRequest("x"), 400),
        (TokenError::InvalidClient, 401),
        (TokenError::UnauthorizedClient, 400),
        (TokenError::UnsupportedGrantType, 400),
        (TokenError::InvalidScope, 400),
        (TokenError::TooLarge, 413),
        (TokenError::ServerError, 500),
        (TokenError::TooManyRequests, 429),
        (TokenError::TemporarilyUnavailable, 503),
    ] {
        assert_eq!(error.http_status(), status);
        assert_eq!(error.body().error, error.code());
    }
    let narrow = BearerError::InsufficientScope(Scope::Return);
    insta::assert_snapshot!(
        [BearerError::Missing, BearerError::InvalidToken, narrow]
            .map(|error| format!("{} {}", error.http_status(), error.challenge()))
            .join("\n"),
        @r#"
    401 Bearer realm="leasehold"
    401 Bearer realm="leasehold", error="invalid_token"
    403 Bearer realm="leasehold", error="insufficient_scope", scope="license:return"
    "#
    );
}

#[test]
fn scopes_are_a_set() {
    let both = Scopes::of(&[Scope::Return, Scope::Checkout]);
    assert_eq!(both.to_string(), "license:checkout license:return");
    assert_eq!(Scopes::parse(" license:return  license:checkout license:return "), Ok(both));
    assert_eq!(Scopes::parse(""), Ok(Scopes::NONE));
    assert_eq!(Scopes::parse("license:x"), Err(UnknownScope("license:x".to_owned())));
    assert!(Scopes::parse("license:checkout\tlicense:return").is_err());
    assert!(both.is_subset_of(Scopes::ALL) && !Scopes::ALL.is_subset_of(both));
    assert!(Scopes::NONE.is_subset_of(both) && Scopes::NONE.is_empty());
    assert!(both.allows(Scope::Read) && !both.contains(Scope::Read));
    assert!(!Scopes::NONE.allows(Scope::Read));
    assert!(!Scopes::of(&[Scope::Read]).allows(Scope::Checkout));
    for bits in 0..=u8::MAX {
        let scopes = Scopes::from_bits(bits);
        assert_eq!(scopes.is_some(), bits < 8);
        if let Some(scopes) = scopes {
            assert_eq!(scopes.bits(), bits);
            assert_eq!(Scopes::parse(&scopes.to_string()), Ok(scopes));
        }
    }
}

#[test]
fn key_ids_are_thumbprints() {
    // Made with Python from RFC 7638's recipe.
    let ed25519 = PublicKey::from_pem(ED25519_PUBLIC).unwrap();
    assert_eq!(key_id(&ed25519), "--6IM5l0OosLj9yWskISYhUA3n_3CURQkmrYMSha_ck");
    let jwk = serde_json::to_value(Jwk::of(&ed25519)).unwrap();
    assert_eq!(
        jwk,
        serde_json::json!({
            "kty": "OKP", "use": "sig", "alg": "EdDSA", "crv": "Ed25519",
            "kid": "--6IM5l0OosLj9yWskISYhUA3n_3CURQkmrYMSha_ck",
            "x": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw",
        })
    );
    let rsa = Jwk::of(&PublicKey::from_pem(RSA_PUBLIC).unwrap());
    assert_eq!((rsa.e.as_deref(), rsa.n.as_deref().map(str::len)), (Some("AQAB"), Some(342)));
    assert_eq!((rsa.kty.as_str(), rsa.alg.as_str(), rsa.x), ("RSA", "RS256", None));
}

/// The key of RFC 7638, section 3.1, and its thumbprint.
#[test]
fn the_thumbprint_of_the_rfc_comes_out() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1\
        L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4\
        QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbO\
        pbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF\
        Cur-kEgU8awapJzKnqDKgw";
    let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(n).unwrap();
    // SubjectPublicKeyInfo of a 2,048-bit key with exponent 65537.
    let mut der = vec![
        0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
        0x01, 0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82,
        0x01, 0x01, 0x00,
    ];
    der.extend(n);
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    let key = PublicKey::from_spki_der(&der).unwrap();
    assert_eq!(key_id(&key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn claims_metadata_and_answers_keep_their_names() {
    let claims = AccessClaims {
        iss: "https://licenses.example.com".to_owned(),
        sub: "davinci-bmw-client".to_owned(),
        aud: "leasehold:5f0c".to_owned(),
        iat: 1_700_000_000,
        exp: 1_700_003_600,
        jti: "n1-000001".to_owned(),
        client_id: "davinci-bmw-client".to_owned(),
        scope: Scopes::of(&[Scope::Checkout]),
        app_id: "app-davinci-12345".to_owned(),
        secret_generation: 1,
        cluster_id: "5f0c".to_owned(),
        epoch: 1,
        cnf: None,
    };
    let bound =
        AccessClaims { cnf: Some(Confirmation::of_certificate(&[7; 32])), ..claims.clone() };
    let json = serde_json::to_value(&bound).unwrap();
    assert_eq!(json["cnf"]["x5t#S256"], "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
    assert_eq!(serde_json::from_value::<AccessClaims>(json).unwrap(), bound);
    assert_eq!(bound.cnf.unwrap().certificate(), Some([7; 32]));
    assert_eq!(Confirmation { x5t_s256: "AAAA".to_owned() }.certificate(), None);
    let json = serde_json::to_string(&claims).unwrap();
    assert_eq!(serde_json::from_str::<AccessClaims>(&json).unwrap(), claims);
    assert!(claims.is_alive(1_700_003_599) && !claims.is_alive(1_700_003_600));
    assert!(!AccessClaims { exp: claims.exp + 1, ..claims.clone() }.is_alive(1_700_000_000));
    let base = "https://127.0.0.1:7401";
    let metadata = ServerMetadata::at(base, base);
    let token = TokenResponse::bearer("eyJ".to_owned(), Scopes::ALL);
    insta::assert_json_snapshot!("oauth", (claims, metadata, token));
}
