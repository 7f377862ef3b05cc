//! Requests over real connections on loopback: what is passed on to the next server, under which
//! key, and what is told when nobody answers. The far side is a script of what a network and a
//! gateway can do to a request; gateways themselves are tested with real processes elsewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::exit::Exit;
use crate::options::{GlobalOptions, OutputFormat, Wait};
use crate::scripted;

/// What a server does with every connection.
#[derive(Debug, Clone, Copy)]
enum Far {
    /// Nobody listens.
    Absent,
    /// The handshake is never answered.
    Stalls,
    /// Reads the request and closes.
    Closes,
    /// Reads the request and answers: status, header lines, body.
    Answers(u16, &'static str, &'static str),
}
use Far::{Absent, Answers, Closes, Stalls};

/// How a request ended.
#[derive(Debug)]
enum End {
    /// With an answer.
    Answered,
    /// With an error of this exit code, whose JSON has these members.
    Failed(Exit, &'static [(&'static str, &'static str)]),
}

type Seen = Arc<Mutex<Vec<String>>>;

/// Sends one change to the servers, and checks how it ended and how many requests each one read.
/// All of them have one key.
fn check(servers: &[Far], end: &End, read: &[usize]) {
    let dir = tempfile::tempdir().unwrap();
    let (seen, outcome) = run(dir.path(), servers, true);
    let counts: Vec<usize> = seen.iter().map(|seen| seen.lock().unwrap().len()).collect();
    assert_eq!(counts, read, "{servers:?}: {outcome:?}");
    for request in seen.iter().flat_map(|seen| seen.lock().unwrap().clone()) {
        assert!(request.contains("idempotency-key: k-1"), "{request}");
        assert!(request.contains("authorization: bearer t-1"), "{request}");
        assert!(request.contains("post /admin/apps http/1.1"), "{request}");
    }
    match (outcome, end) {
        (Ok(_), End::Answered) => {}
        (Err(error), End::Failed(exit, members)) => {
            assert_eq!(error.exit(), *exit, "{servers:?}: {error}");
            let json = error.to_json();
            for (name, value) in *members {
                assert_eq!(json["error"][*name], *value, "{servers:?}: {json}");
            }
        }
        (outcome, end) => panic!("{servers:?}: {outcome:?}, expected {end:?}"),
    }
}

/// What each server read, and how the request ended.
fn run(dir: &Path, servers: &[Far], is_trusted: bool) -> (Vec<Seen>, Result<Answer>) {
    let (ca_cert, acceptor) = scripted::server(dir, is_trusted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let (mut urls, mut seen) = (Vec::new(), Vec::new());
        for far in servers {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            // Port 1 of loopback: nobody listens.
            let port = match far {
                Absent => 1,
                _ => listener.local_addr().unwrap().port(),
            };
            urls.push(format!("https://127.0.0.1:{port}"));
            let log = Seen::default();
            seen.push(Arc::clone(&log));
            tasks.spawn(serve(*far, listener, acceptor.clone(), log));
        }
        let options = GlobalOptions {
            server: urls,
            ca_cert: Some(ca_cert),
            token: None,
            context: None,
            timeout: Wait { ms: TIMEOUT_MS },
            output: OutputFormat::Table,
            quiet: false,
        };
        let settings = crate::settings::resolve(&options, &|_| None, None).unwrap();
        let request = Request::change(Method::POST, &["admin", "apps"], Some("k-1"))
            .and_then(|request| request.bearer("t-1").json(&[1]));
        let client = Client::new(&settings).unwrap();
        let outcome = client.send(&request.unwrap()).await;
        tasks.shutdown().await;
        (seen, outcome)
    })
}

/// Takes one connection after the other, and does to each what the script says.
async fn serve(far: Far, listener: TcpListener, acceptor: TlsAcceptor, seen: Seen) {
    let mut stalled = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        match far {
            Absent => {}
            Stalls => stalled.push(stream),
            // A client that does not trust us ends the handshake; the next one is welcome.
            Closes | Answers(..) => drop(converse(far, stream, &acceptor, &seen).await),
        }
    }
}

async fn converse(
    far: Far,
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    seen: &Seen,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    // The body of every request is `[1]`.
    while !request.ends_with(b"\r\n\r\n[1]") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    seen.lock().unwrap().push(String::from_utf8_lossy(&request).to_lowercase());
    if let Answers(status, headers, body) = far {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n\
             {body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

const OK: Far = Answers(200, "", "{}");

#[test]
fn a_request_goes_on_to_a_server_that_answers_under_the_same_key() {
    check(&[OK, OK], &End::Answered, &[1, 0]);
    check(&[Absent, OK], &End::Answered, &[0, 1]);
    check(&[Stalls, OK], &End::Answered, &[0, 1]);
    check(&[Closes, OK], &End::Answered, &[1, 1]);
    check(&[Answers(503, "", "{}"), OK], &End::Answered, &[1, 1]);
    check(&[Absent, Closes, Answers(502, "", ""), OK], &End::Answered, &[0, 1, 1, 1]);
}

#[test]
fn a_refusal_is_everyones() {
    let body = r#"{"code":"package_id_taken","detail":"no","status":409}"#;
    let refused = End::Failed(Exit::Refused, &[("code", "package_id_taken"), ("message", "no")]);
    check(&[Answers(409, "", body), OK], &refused, &[1, 0]);
    let denied = End::Failed(Exit::NotAllowed, &[("code", "http_401"), ("request_id", "r-1")]);
    check(&[Answers(401, "X-Request-Id: r-1\r\n", ""), OK], &denied, &[1, 0]);
}

#[test]
fn a_token_does_not_follow_a_redirect() {
    let moved = Answers(307, "Location: https://127.0.0.1:1/elsewhere\r\n", "");
    check(&[moved, OK], &End::Failed(Exit::Failed, &[("code", "http_307")]), &[1, 0]);
}

#[test]
fn what_was_not_sent_was_not_done_and_what_was_sent_is_in_doubt() {
    check(&[Absent], &End::Failed(Exit::NotReachable, &[("code", "not_reachable")]), &[0]);
    check(&[Stalls], &End::Failed(Exit::NotReachable, &[("code", "not_reachable")]), &[0]);
    let doubt = &[("code", "no_answer"), ("outcome", "unknown"), ("idempotency_key", "k-1")];
    check(&[Closes], &End::Failed(Exit::NotReachable, doubt), &[1]);
    // Long waits that the servers ask for are not begun.
    let wait = "Retry-After: 3600\r\n";
    let busy = Answers(503, wait, r#"{"code":"no_quorum","outcome":"not_executed"}"#);
    let nothing = &[("code", "no_quorum"), ("outcome", "not_executed")];
    check(&[busy], &End::Failed(Exit::NoQuorum, nothing), &[1]);
    let doubt = &[("code", "no_quorum"), ("outcome", "unknown"), ("idempotency_key", "k-1")];
    check(&[Closes, busy], &End::Failed(Exit::NoQuorum, doubt), &[1, 1]);
}

#[test]
fn a_foreign_authority_is_named_and_nothing_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, outcome) = run(dir.path(), &[OK], false);
    let error = outcome.err().unwrap();
    assert_eq!(error.exit(), Exit::NotReachable);
    assert!(error.line().contains("--ca-cert"), "{}", error.line());
    assert!(seen.iter().all(|seen| seen.lock().unwrap().is_empty()));
}

fn check_url(server: &str, path: &[&str], expected: Option<&str>) {
    let server = crate::settings::server_url(server).ok().unwrap();
    let url = url_of(&server, path).ok();
    assert_eq!(url.as_ref().map(Url::as_str), expected);
}

#[test]
fn an_id_cannot_lead_elsewhere() {
    let server = "https://a:1";
    check_url(server, &["admin", "apps"], Some("https://a:1/admin/apps"));
    check_url(server, &["admin", "a/b?c#d"], Some("https://a:1/admin/a%2Fb%3Fc%23d"));
    check_url("https://a/base/", &["admin"], Some("https://a/base/admin"));
    check_url(server, &["admin", "..", "x"], None);
    check_url(server, &["admin", "."], None);
    check_url(server, &["admin", ""], None);
}

#[test]
fn loopback_is_told_from_hosts_that_look_like_it() {
    for (server, expected) in [
        ("https://127.0.0.1:1", true),
        ("https://127.9.9.9", true),
        ("https://localhost", true),
        ("https://[::1]:7401", true),
        ("https://127.0.0.1.example.com", false),
        ("https://10.0.0.1", false),
    ] {
        let url = crate::settings::server_url(server).ok().unwrap();
        assert_eq!(is_loopback(&url), expected, "{server}");
    }
}

/// `Some(None)`: busy, without a wait; `None`: an answer or a refusal.
fn check_sort(status: u16, retry_after: Option<&str>, busy: Option<Option<u64>>) {
    let mut headers = HeaderMap::new();
    if let Some(text) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
    }
    let server = crate::settings::server_url("https://a").ok().unwrap();
    let got = match sort(status, &headers, b"{}".to_vec(), &server) {
        Ok(Attempt::Busy { retry_after_ms, .. }) => Some(retry_after_ms),
        Ok(Attempt::Answer(answer)) => {
            assert_eq!(answer.status, status);
            None
        }
        Ok(Attempt::Unreachable { .. }) => panic!("an answer is not nothing"),
        Err(_) => {
            assert!(status >= 300);
            None
        }
    };
    assert_eq!(got, busy, "{status}");
}

#[test]
fn only_what_another_server_may_answer_is_passed_on() {
    check_sort(200, None, None);
    check_sort(204, None, None);
    check_sort(307, None, None);
    check_sort(401, None, None);
    check_sort(409, Some("5"), None);
    check_sort(500, None, None);
    check_sort(503, None, Some(None));
    check_sort(503, Some("2"), Some(Some(2_000)));
    check_sort(503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), Some(None));
    check_sort(429, Some("1"), Some(Some(1_000)));
    check_sort(502, None, Some(None));
}

#[test]
fn a_change_has_one_key_for_all_attempts_and_bad_keys_are_refused() {
    let made = |key| Request::change(Method::POST, &["a"], key);
    let fresh = made(None).ok().unwrap();
    let other = made(None).ok().unwrap();
    assert_eq!(fresh.idempotency_key.as_ref().map(String::len), Some(32));
    assert_ne!(fresh.idempotency_key, other.idempotency_key);
    assert_eq!(made(Some("k-1")).ok().unwrap().idempotency_key.as_deref(), Some("k-1"));
    assert!(made(Some("two words")).is_err_and(|error| error.exit().code() == 2));
    assert!(Request::get(&["a"]).idempotency_key.is_none());
}

/// Enough for a handshake on a busy machine, short enough for a stalled one.
const TIMEOUT_MS: u64 = 4_000;
