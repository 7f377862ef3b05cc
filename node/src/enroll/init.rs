//! `cluster init`: the files of the one node that founds a cluster. Others join it when it runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use cli::InitArgs;
use cli::local::{Told, ToldPart, Trouble};
use protocol::secret::Disclosed;
use serde_json::json;
use storage::seam::{RealClock, RealEntropy};

use super::{
    CONFIG, KEYS, Reached, absolute, check_early, checked, config_file, failed, is_unused, line,
    make_dir, private, public, token_signing_key, unit_hint, usage, write_config, write_context,
};
use crate::config::file::{BootstrapFile, ConfigFile, Hex, MemberFile};
use crate::pki::Authority;
use crate::provision::{founding_text, new_cluster_id, random};
use crate::seal::kek::KeyEncryptionKey;

pub(super) fn init(args: &InitArgs) -> Result<Told, Trouble> {
    let dir = absolute(&args.node.dir);
    if !is_unused(&dir)? {
        return Err(usage(format!(
            "{}: is not empty; name another directory, or empty this one if nothing runs from it",
            dir.display()
        )));
    }
    for (option, text) in [("--client-id", &args.client_id), ("--org-domain", &args.org_domain)] {
        if !protocol::wire::is_text(text, 128) || text.contains(char::is_whitespace) {
            return Err(usage(format!("{option} wants 1 to 128 characters without spaces")));
        }
    }
    let reached = Reached::of(&args.node)?;
    let cluster_id = new_cluster_id(&RealEntropy);
    let mut file = config_file(&args.node, &reached, args.preset, (&cluster_id, 1))?;
    file.tls.leaf_days = args.leaf_days;
    check_early(&dir.join(CONFIG), &file, args.node.gateway_cert.is_some())?;
    let token = write_files(&dir, args, &reached, file)?;
    Ok(report(&dir, &cluster_id, &reached, &token))
}

fn write_files(
    dir: &Path,
    args: &InitArgs,
    reached: &Reached,
    mut file: ConfigFile,
) -> Result<Disclosed, Trouble> {
    let (clock, entropy) = (RealClock::new(), RealEntropy);
    let keys = dir.join(KEYS);
    make_dir(&keys)?;
    let authority = Authority::generate(&file.cluster_id, &clock, &entropy)
        .map_err(|error| failed(&error))?
        .with_leaf_days(args.leaf_days);
    public(&dir.join("ca.pem"), authority.certificate_pem())?;
    let kek = KeyEncryptionKey::generate(&entropy);
    private(&keys.join("kek.pem"), kek.to_pem().expose())?;
    token_signing_key(&keys.join("token-signing.pem"))?;
    let peer =
        authority.issue_node(&file.cluster_id, 1, &entropy).map_err(|error| failed(&error))?;
    public(&dir.join("peer.pem"), &peer.certificate_pem)?;
    private(&keys.join("peer.key"), peer.key_pem.expose())?;
    if args.node.gateway_cert.is_none() {
        let gateway = issue_gateway(&authority, reached)?;
        public(&dir.join("gateway.pem"), &gateway.certificate_pem)?;
        private(&keys.join("gateway.key"), gateway.key_pem.expose())?;
    }
    private(&keys.join("directory.ticket"), "")?;
    let (founding, token) = founding_text(&authority, &entropy);
    private(&keys.join("founding.toml"), founding.expose())?;
    file.bootstrap = Some(BootstrapFile {
        founder: true,
        secrets: Some("keys/founding.toml".into()),
        directory_ticket: "keys/directory.ticket".into(),
        client_id: args.client_id.clone(),
        org_domain: args.org_domain.clone(),
        members: vec![MemberFile {
            id: 1,
            peer_address: reached.peer_address.clone(),
            gateway_url: reached.gateway_url.clone(),
            region: args.node.region.clone(),
            zone: args.node.zone.clone(),
            directory_incarnation: Hex(random(&entropy)),
            kek_public: Hex(kek.public()),
        }],
    });
    let own = args.node.gateway_cert.is_none();
    if own {
        write_context(dir, std::slice::from_ref(&reached.gateway_url), "ca.pem")?;
    }
    let config = dir.join(CONFIG);
    write_config(&config, &checked(&config, &file)?)?;
    Ok(token)
}

fn issue_gateway(authority: &Authority, reached: &Reached) -> Result<crate::pki::Issued, Trouble> {
    let host = reached.gateway_host();
    let mut names = vec!["localhost"];
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    match host.parse::<IpAddr>() {
        Ok(address) if addresses.contains(&address) => {}
        Ok(address) => addresses.push(address),
        Err(_) if host == "localhost" => {}
        Err(_) => names.push(&host),
    }
    authority.issue_gateway(&names, &addresses, &RealEntropy).map_err(|error| failed(&error))
}

fn report(dir: &Path, cluster_id: &str, reached: &Reached, token: &Disclosed) -> Told {
    let config = dir.join(CONFIG);
    let ca_cert = dir.join("ca.pem");
    let next = format!(
        "leasehold member add --server {} --ca-cert {}",
        reached.gateway_url,
        ca_cert.display()
    );
    let json = json!({
        "cluster_id": cluster_id,
        "node_id": 1,
        "directory": dir,
        "config": config,
        "ca_cert": ca_cert,
        "gateway_url": reached.gateway_url,
        "peer_address": reached.peer_address,
        "admin_token": token.expose(),
        "next": [format!("leasehold serve --config {}", config.display()), next.clone()],
    });
    let mut parts: Vec<ToldPart> = vec![
        line(format!("cluster {cluster_id}: its first node is in {}", dir.display())),
        line(format!("Operator token, shown this once:  {}", token.expose())),
    ];
    parts.extend(unit_hint(&config));
    parts.push(line(format!("Then, for each further node:  {next}")));
    parts.push(line("with the operator token in LEASEHOLD_TOKEN."));
    Told { json, parts, ids: vec![cluster_id.to_owned()] }
}
