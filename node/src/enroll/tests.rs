//! A node's first files: what is made, what is refused, and that a repeat goes on.

use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use protocol::join_token::JoinToken;
use protocol::secret::Secret;

use super::*;
use crate::program::tests::hold;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: InitArgs,
}

fn args(dir: &Path, more: &[&str]) -> InitArgs {
    let dir = dir.display().to_string();
    let words = ["init", "--client-id", "bmw-de-001", "--org-domain", "bmw.com", "--dir", &dir];
    let words = words.iter().chain(more).map(|word| (*word).to_owned());
    Line::try_parse_from(words).map_err(|error| error.to_string()).unwrap().args
}

fn refused(told: Result<Told, Trouble>, code: u8, words: &str) {
    let trouble = told.err().unwrap();
    assert_eq!(trouble.exit.code(), code, "{}", trouble.message);
    assert!(trouble.message.contains(words), "{}", trouble.message);
    assert!(!trouble.message.contains('\n'), "{}", trouble.message);
}

#[test]
fn the_first_node_gets_files_that_a_start_takes_and_no_secret_is_open_to_others() {
    crate::pki::install_provider();
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("lic-1");
    let more = ["--advertise", "lic-1.example.com:7401", "--region", "eu", "--zone", "a"];
    let told = init::init(&args(&dir, &more)).unwrap();
    hold("cluster init", &told.json);
    assert_eq!(told.json["gateway_url"], "https://lic-1.example.com:7401");
    assert_eq!(told.json["peer_address"], "lic-1.example.com:7411");
    let token = told.json["admin_token"].as_str().unwrap();
    assert!(token.starts_with("lh_op_"));
    let clock = storage::seam::RealClock::new();
    let config = config::load(&dir.join(CONFIG), &clock).unwrap();
    assert_eq!((config.file.node_id, config.file.region.as_str()), (1, "eu"));
    assert!(config.file.bootstrap.as_ref().is_some_and(|it| it.founder && it.members.len() == 1));
    for entry in fs::read_dir(dir.join(KEYS)).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        assert!(!fs::read_to_string(&path).unwrap().contains(token), "the token is kept nowhere");
    }
    refused(init::init(&args(&dir, &more)), 2, "is not empty");
}

#[test]
fn what_cannot_be_reached_is_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("x");
    refused(init::init(&args(&dir, &["--advertise", "no-port"])), 2, "--advertise");
    let mut spaced = args(&dir, &[]);
    spaced.client_id = "a b".to_owned();
    refused(init::init(&spaced), 2, "--client-id");
    let table: [(&[&str], &str); 3] = [
        (&["--listen", "10.0.0.1:1", "--peer-listen", "10.0.0.1:1"], "peer_listen"),
        (&["--gateway-cert", "none.pem", "--gateway-key", "none.key"], "tls.gateway_cert"),
        (&["--region", "a\nb"], "region"),
    ];
    for (more, words) in table {
        refused(init::init(&args(&dir, more)), 2, words);
    }
    assert!(!dir.exists());
}

#[test]
fn a_join_says_what_is_wrong_with_it_before_it_uses_its_token() {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: JoinArgs,
        #[command(flatten)]
        options: GlobalOptions,
    }
    crate::pki::install_provider();
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("lic-1");
    let join = |node: u64, cluster_id: &str, more: &[&str]| {
        let token = JoinToken {
            node,
            secret: Secret::new([1; 32]),
            authority: [2; 32],
            cluster_id: cluster_id.to_owned(),
            gateways: vec!["https://127.0.0.1:1".to_owned()],
        };
        let (token, dir) = (token.encode().unwrap(), dir.display().to_string());
        let words = ["join", "--token", token.expose(), "--dir", &dir];
        let words = words.iter().chain(more).map(|word| (*word).to_owned());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string()).unwrap();
        within_runtime(join::join(&line.args, &line.options))
    };
    let same = ["--listen", "10.0.0.1:1", "--peer-listen", "10.0.0.1:1"];
    let line = join(2, "lh-a", &same).err().unwrap().line();
    assert!(line.contains("peer_listen"), "{line}");
    assert!(!dir.exists(), "nothing is begun");

    // A repeat after all was done: only where a start would take what is there.
    init::init(&args(&dir, &["--advertise", "lic-1.example.com:7401"])).unwrap();
    let text = fs::read_to_string(dir.join(CONFIG)).unwrap();
    let file: ConfigFile = toml::from_str(&text).unwrap();
    let again = || join(1, &file.cluster_id, &[]);
    assert_eq!(again().unwrap().json["joined_before"], true);
    let other = join(2, &file.cluster_id, &[]).err().unwrap().line();
    assert!(other.contains("belongs to node 1"), "{other}");
    fs::remove_file(dir.join("peer.pem")).unwrap();
    let line = again().err().unwrap().line();
    assert!(line.contains("tls.peer_cert"), "{line}");
}

#[test]
fn addresses_follow_what_was_said_and_the_machine_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let own = own_name();
    let table: [(&[&str], String, String); 4] = [
        (&[], format!("https://{own}:7401"), format!("{own}:7411")),
        (
            &["--listen", "10.0.0.1:1", "--peer-listen", "10.0.0.1:2"],
            "https://10.0.0.1:1".to_owned(),
            "10.0.0.1:2".to_owned(),
        ),
        (&["--advertise", "a:1"], "https://a:1".to_owned(), "a:7411".to_owned()),
        (
            &["--advertise", "a:1", "--peer-advertise", "b:2"],
            "https://a:1".to_owned(),
            "b:2".to_owned(),
        ),
    ];
    for (words, gateway, peer) in table {
        let reached = Reached::of(&args(root.path(), words).node).unwrap();
        assert_eq!((reached.gateway_url, reached.peer_address), (gateway, peer), "{words:?}");
    }
}

#[test]
fn a_join_that_was_interrupted_goes_on_and_another_token_begins_anew() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("lic-2");
    let keys = dir.join(KEYS);
    let token = |node: u64| JoinToken {
        node,
        secret: Secret::new([1; 32]),
        authority: [2; 32],
        cluster_id: "lh-a".to_owned(),
        gateways: vec!["https://a:1".to_owned()],
    };
    let first = join::begin(&dir, &keys, &token(2)).unwrap();
    let kek = join::key_encryption_key(&keys.join("kek.pem")).unwrap().public();
    let again = join::begin(&dir, &keys, &token(2)).unwrap();
    assert_eq!(again, first, "the same directory, whatever its number");
    assert_eq!(join::key_encryption_key(&keys.join("kek.pem")).unwrap().public(), kek);
    let other = join::begin(&dir, &keys, &token(3)).unwrap();
    assert_ne!(other.incarnation(), first.incarnation());
    assert_ne!(join::key_encryption_key(&keys.join("kek.pem")).unwrap().public(), kek);
    fs::write(root.path().join("homework.txt"), "").unwrap();
    let strange = join::begin(root.path(), &root.path().join(KEYS), &token(2));
    assert!(strange.err().unwrap().message.contains("is not empty"));
}
