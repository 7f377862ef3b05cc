//! A node's files in a directory, changed under a running object: what is taken up, what is not.

use std::os::unix::fs::PermissionsExt;

use lease::Ledger;
use lease::command::{Command, InitCluster};
use lease::entry::{Entry, EntryHeader, Stamp};
use lease::operate::{AnchorState, TrustAnchor};
use protocol::secret::Secret;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use storage::seam::{RealClock, RealEntropy};

use super::*;
use crate::config;
use crate::config::file::{LogFile, Preset, ProtocolsFile};
use crate::pki::Authority;
use crate::provision::{NodePlan, Plan, node_dir, provision, read_founding};

/// A provisioned node, and the authority that made it.
struct World {
    dir: tempfile::TempDir,
    certificates: Certificates,
    authority: Arc<AuthorityCell>,
    ca_key: String,
}

impl World {
    fn new() -> Self {
        Self::moved_to(None)
    }

    /// One whose gateway is at another URL than when it was made.
    fn moved_to(gateway_url: Option<&str>) -> Self {
        pki::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            client_id: "bmw-de-001".to_owned(),
            org_domain: "bmw.com".to_owned(),
            preset: Preset::Lan,
            log: LogFile::default(),
            protocols: ProtocolsFile::default(),
            nodes: vec![NodePlan {
                id: 1,
                listen: "127.0.0.1:7401".parse().unwrap(),
                peer_listen: "127.0.0.1:7411".parse().unwrap(),
            }],
        };
        provision(dir.path(), &plan, &RealClock::new(), &RealEntropy, &|_| {}).unwrap();
        let home = node_dir(dir.path(), 1);
        let founding = read_founding(&home.join("keys/founding.toml")).unwrap();
        let ca_key = String::from_utf8(founding.secrets["ca-key"].expose().clone()).unwrap();
        let mut config = config::load(&home.join("node.toml"), &RealClock::new()).unwrap();
        if let Some(url) = gateway_url {
            config.file.gateway_url = url.to_owned();
        }
        let authority = Arc::new(AuthorityCell::sealed());
        let certificates = Certificates::new(
            config.path,
            Arc::new(config.file),
            config.tls,
            authority.clone(),
            Arc::new(RealClock::new()),
            Arc::new(RealEntropy),
        )
        .unwrap();
        Self { dir, certificates, authority, ca_key }
    }

    fn path(&self, name: &str) -> PathBuf {
        node_dir(self.dir.path(), 1).join(name)
    }

    fn unseal(&self, ledger: &Ledger, key_pem: &str) {
        let roots = self.certificates.roots();
        let key = IssuingKey::find(ledger, &roots, Secret::new(key_pem.to_owned()), 1);
        assert!(key.is_some(), "the key has a certificate");
        self.authority.set(key);
    }

    fn fingerprint(&self, purpose: &str) -> String {
        let facts = self.certificates.facts();
        facts.into_iter().find(|it| it.purpose == purpose).unwrap().fingerprint
    }

    /// The authority whose key the founder made.
    fn first(&self) -> Authority {
        let now_ms = RealClock::new().wall_ms();
        Authority::load(&self.certificates.roots()[0], &[], &self.ca_key, now_ms).unwrap()
    }
}

/// A ledger with these authorities.
fn ledger(anchors: &[TrustAnchor]) -> Ledger {
    let mut ledger = Ledger::new();
    let init = Command::InitCluster(InitCluster {
        cluster_id: "lh-test".into(),
        client_id: "c".into(),
        org_domain: "o".into(),
        epoch: 1,
        incarnation: 0,
    });
    let puts = anchors.iter().map(|it| Command::PutTrustAnchor(Box::new(it.clone())));
    for (index, command) in (1..).zip([init].into_iter().chain(puts)) {
        let stamp = Stamp { led_ms: 1, civil_ms: 1 };
        let epoch = u32::from(index > 1);
        let header = EntryHeader { group: 0, epoch, incarnation: 0, stamp, origin: 1 };
        let envelope = Envelope {
            actor: Actor::Node(1),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        };
        ledger.apply_entry(index, &Entry { header, commands: vec![envelope] }).unwrap();
    }
    ledger
}

fn anchor(certificate: &[u8], cross_signed: &[u8], state: AnchorState) -> TrustAnchor {
    TrustAnchor {
        fingerprint: Sha256::digest(certificate).into(),
        certificate_der: certificate.to_vec(),
        cross_signed_der: cross_signed.to_vec(),
        key_version: 1,
        state,
    }
}

#[test]
fn files_that_do_not_fit_change_nothing_and_the_line_names_the_key() {
    let world = World::new();
    let before = world.certificates.facts();
    let peer = fs::read(world.path("peer.pem")).unwrap();
    let key = fs::read(world.path("keys/peer.key")).unwrap();
    type Break<'a> = (&'a str, &'a str, Vec<u8>, &'a str);
    let gateway_key = fs::read(world.path("keys/gateway.key")).unwrap();
    let table: [Break<'_>; 4] = [
        ("another's key", "keys/peer.key", gateway_key, "tls.peer_key"),
        ("no certificate", "gateway.pem", b"nonsense".to_vec(), "tls.gateway_cert"),
        ("no node's certificate", "peer.pem", fs::read(world.path("gateway.pem")).unwrap(), "tls."),
        ("nothing", "gateway.pem", Vec::new(), "tls.gateway_cert"),
    ];
    for (what, name, bytes, line_has) in table {
        let good = fs::read(world.path(name)).unwrap();
        fs::write(world.path(name), bytes).unwrap();
        assert!(world.certificates.files_changed(), "{what}");
        let error = world.certificates.reload().unwrap_err();
        assert!(config::chain(&error).contains(line_has), "{what}: {error}");
        assert!(!world.certificates.files_changed(), "{what}: it is told once");
        assert_eq!(world.certificates.facts(), before, "{what}");
        fs::write(world.path(name), good).unwrap();
    }
    assert_eq!(fs::read(world.path("peer.pem")).unwrap(), peer);
    assert_eq!(fs::read(world.path("keys/peer.key")).unwrap(), key);
    assert!(world.certificates.reload().is_ok());
}

#[test]
fn other_files_are_in_use_at_once() {
    let world = World::new();
    let mut shown = world.certificates.gateway_tls();
    shown.mark_unchanged();
    let before = world.fingerprint("gateway");
    let issued = world.first().issue_gateway(&["example.com"], &[], &RealEntropy).unwrap();
    fs::write(world.path("keys/gateway.key"), issued.key_pem.expose()).unwrap();
    fs::write(world.path("gateway.pem"), &issued.certificate_pem).unwrap();
    assert!(world.certificates.files_changed());
    world.certificates.reload().unwrap();
    assert!(shown.has_changed().unwrap());
    assert_ne!(world.fingerprint("gateway"), before);
    assert_eq!(world.certificates.facts()[0].names, ["example.com"]);
}

#[test]
fn a_node_renews_what_came_from_the_cluster_half_way_and_nothing_else() {
    let world = World::new();
    let facts = world.certificates.facts();
    let (made_s, until_s) = (facts[0].not_before_s + pki::BACKDATED_S, facts[0].not_after_s);
    let half_ms = (made_s + (until_s - made_s) / 2) * 1_000;
    assert!(world.certificates.due(half_ms).is_empty(), "a sealed node issues nothing");
    assert!(matches!(world.certificates.renew(), Err(CertificatesError::NoAuthority)));
    world.unseal(&Ledger::new(), &world.ca_key);
    assert!(world.certificates.due(half_ms - 1_000).is_empty());
    assert!(!world.certificates.due(half_ms).is_empty());
    let before = (world.fingerprint("gateway"), world.fingerprint("peer"));
    let told = world.certificates.renew().unwrap();
    assert!(told.contains("gateway") && told.contains("peer"), "{told}");
    assert_ne!(world.fingerprint("gateway"), before.0);
    assert_ne!(world.fingerprint("peer"), before.1);
    assert_eq!(world.certificates.facts()[0].names, facts[0].names, "for the same hosts");
    let mode = fs::metadata(world.path("keys/peer.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(!world.path("keys/peer.key.next").exists());
    assert!(config::load(&world.path("node.toml"), &RealClock::new()).is_ok(), "a restart works");

    // One from elsewhere is watched, and left alone whatever its age.
    let other = Authority::generate("lh-other", &RealClock::new(), &RealEntropy).unwrap();
    let issued = other.issue_gateway(&["example.com"], &[], &RealEntropy).unwrap();
    replace_pair(&world.path("gateway.pem"), &world.path("keys/gateway.key"), 1, &issued).unwrap();
    world.certificates.reload().unwrap();
    let foreign = world.fingerprint("gateway");
    let facts = world.certificates.facts();
    assert_eq!((facts[0].managed, facts[0].issuer.as_str(), facts[0].renew_at_s), (false, "", 0));
    assert_eq!(world.certificates.renew().unwrap(), "new certificates are in use: peer");
    assert_eq!(world.fingerprint("gateway"), foreign);
}

#[test]
fn a_gateway_that_moved_gets_a_certificate_for_its_new_host_and_keeps_the_names_it_had() {
    let now_ms = RealClock::new().wall_ms();
    for (url, host, is_due) in [
        ("https://127.0.0.1:7401", "127.0.0.1", false),
        ("https://[0:0::1]:7401", "::1", false),
        ("https://lic-1.example.com:7401", "lic-1.example.com", true),
        ("https://10.1.2.3:7401", "10.1.2.3", true),
        ("https://[fd00::7]:7401", "fd00::7", true),
    ] {
        let world = World::moved_to(Some(url));
        world.unseal(&Ledger::new(), &world.ca_key);
        let due = if is_due { vec![Purpose::Gateway] } else { Vec::new() };
        assert_eq!(world.certificates.due(now_ms), due, "{url}");
        let peer = world.fingerprint("peer");
        if is_due {
            world.certificates.renew_these(&due).unwrap();
        }
        assert!(world.certificates.due(now_ms).is_empty(), "{url}: it is renewed once");
        let names = &world.certificates.facts()[0].names;
        for name in [host, "localhost", "127.0.0.1"] {
            assert!(names.iter().any(|it| it == name), "{url}: {names:?}");
        }
        assert_eq!(world.fingerprint("peer"), peer, "{url}: the other stays");
    }
}

#[test]
fn a_pair_that_cannot_be_written_costs_the_other_one_renewal_and_is_tried_ever_less_often() {
    let world = World::new();
    world.unseal(&Ledger::new(), &world.ca_key);
    let late_ms = world.certificates.facts().iter().map(|it| it.renew_at_s).max().unwrap() * 1_000;
    assert_eq!(world.certificates.due(late_ms), Purpose::ALL);
    // Something is where the new certificate would be written.
    fs::create_dir(world.path("gateway.pem.node-1")).unwrap();
    let before = (world.fingerprint("gateway"), world.fingerprint("peer"));
    let failed = world.certificates.renew().unwrap_err();
    assert!(matches!(failed, CertificatesError::Write { .. }), "{failed}");
    assert_eq!(world.fingerprint("gateway"), before.0);
    assert_ne!(world.fingerprint("peer"), before.1, "it is made and in use");

    let mut pace = Pace::default();
    let mut now_ns = 5;
    for pause_s in [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 2560] {
        assert!(pace.is_rested(now_ns));
        pace.note(now_ns, pause_s == 10);
        now_ns += pause_s * 1_000_000_000 - 1;
        assert!(!pace.is_rested(now_ns), "{pause_s} s");
        now_ns += 1;
    }
    pace.note(now_ns, true);
    assert!(pace.is_rested(now_ns + RENEWAL_PAUSE_NS));
}

#[test]
fn facts_are_found_out_once_until_something_changes() {
    let world = World::new();
    let is_known = || world.certificates.live.lock().known.is_some();
    assert!(!is_known());
    let sealed = world.certificates.facts();
    assert!(is_known() && !sealed[0].managed);
    world.unseal(&Ledger::new(), &world.ca_key);
    assert!(world.certificates.facts()[0].managed, "the authority is known since");
    world.certificates.follow(world.certificates.roots());
    assert!(!is_known(), "other anchors");
    world.certificates.facts();
    world.certificates.follow(world.certificates.roots());
    assert!(is_known(), "the same anchors");
    world.certificates.reload().unwrap();
    assert!(!is_known(), "other files");
}

#[test]
fn a_renewal_that_was_cut_short_is_finished_by_the_next_start() {
    let world = World::new();
    let issued = world.first().issue_gateway(&["localhost"], &[], &RealEntropy).unwrap();
    let (certificate, key) = (world.path("gateway.pem"), world.path("keys/gateway.key"));
    let next = config::next_key(&key);

    // Cut before the certificate: the old pair fits, and stays.
    replace_file(&RealDisk, &next, issued.key_pem.expose().as_bytes()).unwrap();
    let before = world.fingerprint("gateway");
    world.certificates.reload().unwrap();
    assert_eq!(world.fingerprint("gateway"), before);

    // Cut after it: the key that waits takes its place.
    fs::write(&certificate, &issued.certificate_pem).unwrap();
    world.certificates.reload().unwrap();
    assert_ne!(world.fingerprint("gateway"), before);
    assert!(!next.exists());
    assert_eq!(&fs::read_to_string(&key).unwrap(), issued.key_pem.expose());
}

#[test]
fn another_authority_is_believed_then_used_then_alone() {
    let world = World::new();
    let now_ms = RealClock::new().wall_ms();
    let old_root = world.certificates.roots().remove(0);
    let new = world.first().successor("lh-test", 2, &RealEntropy).unwrap();
    let old = |state| anchor(&old_root, &[], state);
    let next = |state| anchor(&new.certificate, &new.cross_signed, state);

    let first = ledger(&[old(AnchorState::Issuing)]);
    assert_eq!(gateway::pinned_anchor(&first), Some(&old(AnchorState::Issuing)));
    // What a join token pins leads to what gateways show before they renew and after.
    let shown_is_pinned = |ledger: &Ledger, what: &str| {
        let pinned = gateway::pinned_anchor(ledger).unwrap();
        let pinned = CertificateDer::from(pinned.certificate_der.clone());
        assert!(world.certificates.roots().contains(&pinned), "{what}: it can be fetched");
        let pinned = pki::roots(&[pinned]).unwrap();
        let shown = fs::read(world.path("gateway.pem")).unwrap();
        let shown: Vec<_> = CertificateDer::pem_slice_iter(&shown).map(|it| it.unwrap()).collect();
        pki::chains_to(&pinned, &shown, now_ms).unwrap_or_else(|error| panic!("{what}: {error}"));
    };

    // Believed: in the roots and in their file; certificates stay as they are.
    let trusted = ledger(&[old(AnchorState::Issuing), next(AnchorState::Trusted)]);
    world.certificates.follow(anchors_of(&trusted));
    assert_eq!(world.certificates.anchors().len(), 2);
    let filed = fs::read(world.dir.path().join("ca.pem")).unwrap();
    assert_eq!(CertificateDer::pem_slice_iter(&filed).count(), 2);
    assert!(!world.certificates.files_changed(), "its own writing is no change");
    world.unseal(&trusted, new.key_pem.expose());
    assert!(world.certificates.due(now_ms).is_empty(), "it is not in charge yet");
    shown_is_pinned(&trusted, "believed");
    let joined = world.authority.get().unwrap().authority(now_ms).unwrap();
    let joined = joined.issue_node("lh-test", 4, &RealEntropy).unwrap().certificate_pem;
    let joined: Vec<_> =
        CertificateDer::pem_slice_iter(joined.as_bytes()).map(|it| it.unwrap()).collect();
    for root in [&old_root, &new.certificate] {
        let root = pki::roots(std::slice::from_ref(root)).unwrap();
        pki::chains_to(&root, &joined, now_ms).unwrap();
    }

    // In charge: certificates of it, which those who know the old one alone believe, too.
    let issuing = ledger(&[old(AnchorState::Retiring), next(AnchorState::Issuing)]);
    world.certificates.follow(anchors_of(&issuing));
    world.unseal(&issuing, new.key_pem.expose());
    assert!(!world.certificates.due(now_ms).is_empty());
    shown_is_pinned(&issuing, "in charge, not renewed");
    world.certificates.renew().unwrap();
    shown_is_pinned(&issuing, "in charge, renewed");
    assert!(world.certificates.due(now_ms).is_empty());
    let new_fingerprint = fingerprint(&new.certificate);
    assert!(world.certificates.facts().iter().all(|it| it.issuer == new_fingerprint));
    let old_alone = pki::roots(std::slice::from_ref(&old_root)).unwrap();
    let shown = fs::read(world.path("gateway.pem")).unwrap();
    let shown: Vec<_> = CertificateDer::pem_slice_iter(&shown).map(|it| it.unwrap()).collect();
    assert_eq!(shown.len(), 2, "the leaf, and the new authority by the old");
    pki::chains_to(&old_alone, &shown, now_ms).unwrap();

    // Alone: the old one is believed no more.
    let alone = ledger(&[next(AnchorState::Issuing)]);
    world.certificates.follow(anchors_of(&alone));
    assert_eq!(world.certificates.anchors(), [new_fingerprint]);
    shown_is_pinned(&alone, "alone");
    assert_eq!(world.certificates.roots(), std::slice::from_ref(&new.certificate));
    world.certificates.reload().unwrap();
    assert_eq!(world.certificates.roots(), [new.certificate]);
}

#[test]
fn the_first_authority_is_found_by_its_key() {
    let world = World::new();
    world.unseal(&Ledger::new(), &world.ca_key);
    let key = world.authority.get().unwrap();
    let row = key.first_anchor().unwrap();
    assert_eq!((row.state, row.fingerprint), (AnchorState::Issuing, key.fingerprint()));
    let stored = ledger(std::slice::from_ref(&row));
    world.unseal(&stored, &world.ca_key);
    assert!(world.authority.get().unwrap().first_anchor().is_none(), "it is stored once");
    let other = Authority::generate("lh-other", &RealClock::new(), &RealEntropy).unwrap();
    let roots = world.certificates.roots();
    assert!(
        IssuingKey::find(&stored, &roots, other.key_pem(), 1).is_none(),
        "peers from elsewhere"
    );
}

#[test]
fn a_node_that_joins_is_certified_by_its_own_request() {
    use gateway::{AuthorityError, CertificateAuthority, CertificateSubject};
    let World { certificates, authority: cell, ca_key, dir: _dir } = World::new();
    let roots = certificates.roots();
    let authority = crate::authority::ClusterAuthority {
        cluster_id: "lh-test".to_owned(),
        cell: cell.clone(),
        certificates: Arc::new(certificates),
        leaf_days: 30,
        clock: Arc::new(RealClock::new()),
        entropy: Arc::new(RealEntropy),
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = request.pem().unwrap();
    let sealed = authority.issue(&request, CertificateSubject::Peer(4));
    assert_eq!(sealed, Err(AuthorityError::Sealed));
    cell.set(IssuingKey::find(&Ledger::new(), &roots, Secret::new(ca_key), 1));
    assert_eq!(authority.anchors().unwrap(), [roots[0].to_vec()]);
    let leaf = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let peer = leaf(&authority.issue(&request, CertificateSubject::Peer(4)).unwrap());
    assert_eq!(pki::node_of("lh-test", &peer), Some(4));
    assert_eq!(
        pki::public_key_of(&peer).unwrap(),
        rcgen::PublicKeyData::subject_public_key_info(&key)
    );
    let subject = CertificateSubject::Gateway { host: "lic-4.example.com" };
    let gateway = leaf(&authority.issue(&request, subject).unwrap());
    let names = pki::particulars_of(&gateway).unwrap().names;
    assert_eq!(names, ["localhost", "lic-4.example.com"]);
    let broken = authority.issue("no request", CertificateSubject::Peer(4));
    assert!(matches!(broken, Err(AuthorityError::Request(_))));
    let _: PrivateKeyDer<'_> =
        PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
}
