//! A node that was lost and the machine that it was on: what stays until the cluster has agreed.

use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ReplaceMemberArgs,
    #[command(flatten)]
    options: GlobalOptions,
}

/// The files of a node that has run, and no cluster that answers.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        crate::pki::install_provider();
        let root = tempfile::tempdir().unwrap();
        let place = Self { root };
        let dir = place.home().display().to_string();
        let words = ["init", "--client-id", "c", "--org-domain", "o", "--dir", &dir];
        #[derive(Parser)]
        struct Init {
            #[command(flatten)]
            args: cli::InitArgs,
        }
        super::super::init::init(&Init::try_parse_from(words).unwrap().args).unwrap();
        RealDisk.create_dir_all(&place.data().join("log")).unwrap();
        fs::write(place.data().join("log/0"), "acknowledged").unwrap();
        place
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("lic-1")
    }

    fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    fn config(&self) -> PathBuf {
        self.home().join("node.toml")
    }

    fn replace(&self, node: &str) -> String {
        // A port where nobody listens.
        let words = ["replace", node, "--server", "https://127.0.0.1:1", "--token", "lh_op_x"];
        let line = Line::try_parse_from(words).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(replace(&line.args, &self.config(), &line.options));
        told.err().unwrap().line()
    }
}

fn token(node: u64) -> Disclosed {
    let token = JoinToken {
        node,
        secret: Secret::new([1; 32]),
        authority: [2; 32],
        cluster_id: "lh-a".to_owned(),
        gateways: vec!["https://127.0.0.1:1".to_owned()],
    };
    Disclosed::new(token.encode().unwrap().expose().to_owned())
}

#[test]
fn the_data_stays_where_it_is_until_the_cluster_has_agreed() {
    let place = Place::new();
    let before = fs::read(place.config()).unwrap();
    let check = |what: &str| {
        assert_eq!(fs::read(place.data().join("log/0")).unwrap(), b"acknowledged", "{what}");
        assert_eq!(fs::read(place.config()).unwrap(), before, "{what}");
        assert_eq!(last_aside(&place.data(), 1), None, "{what}");
    };
    let line = place.replace("1");
    assert!(line.contains("no server"), "{line}");
    assert!(!place.home().join(REPLACING).exists(), "there is no invitation yet");
    check("no invitation");

    let notes = place.home().join(REPLACING);
    Begun::new(1, token(4), &notes).unwrap();
    let noted = fs::read(&notes).unwrap();
    let line = place.replace("1");
    assert!(line.contains("no server"), "{line}");
    assert_eq!(fs::read(&notes).unwrap(), noted, "the same node joins when it is repeated");
    check("no join");

    let lock = directory::take_lock(&place.data()).unwrap();
    assert!(place.replace("1").contains("stop the node first"));
    drop(lock);
    assert!(place.replace("2").contains("is the configuration of node 1"));
    check("not that node's, or it runs");

    fs::set_permissions(&notes, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(place.replace("1").contains("open to others"), "a token that others can read");
}

#[test]
fn what_is_wrong_with_the_files_costs_no_invitation() {
    let place = Place::new();
    fs::write(place.home().join("gateway.pem"), "nonsense").unwrap();
    let line = place.replace("1");
    assert!(line.contains("tls.gateway_cert"), "{line}");
}

#[test]
fn a_begun_replacement_is_read_back() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(REPLACING);
    assert!(Begun::read(&path).unwrap().is_none());
    let begun = Begun::new(3, token(4), &path).unwrap();
    let read = Begun::read(&path).unwrap().unwrap();
    assert_eq!((read.replaces, &read.joining), (3, &begun.joining));
    assert_eq!(read.token.expose(), begun.token.expose());
    assert!(read.joining.is_node("lh-a", 4));
    private(&path, "token = \"secret\"").unwrap();
    let trouble = Begun::read(&path).err().unwrap();
    assert!(!trouble.message.contains("secret"), "{}", trouble.message);
}

#[test]
fn data_is_put_aside_once_whole_or_piece_by_piece() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    assert_eq!(put_aside(&data, 3).unwrap(), None, "nothing is left");
    let fill = |name: &str| {
        RealDisk.create_dir_all(&data.join(name)).unwrap();
        fs::write(data.join("lock"), "").unwrap();
    };
    fill("log");
    let first = put_aside(&data, 3).unwrap().unwrap();
    assert_eq!(first, root.path().join("data.lost-3-1"));
    assert!(first.join("log").exists() && !data.exists());
    assert_eq!(put_aside(&data, 3).unwrap(), Some(first), "an attempt before has done it");

    fill("state");
    let inside = places(&data, 3, 2)[1].clone();
    move_contents(&data, &left_in(&data).unwrap(), &inside).unwrap();
    assert!(inside.join("state").exists());
    assert_eq!(put_aside(&data, 3).unwrap(), Some(inside), "nothing else is left");
    let opened = directory::open(&RealDisk, &data, "lh-a", 4, None);
    assert!(matches!(opened, Err(DirectoryError::Gone { .. })), "it may begin, with a ticket");
}
