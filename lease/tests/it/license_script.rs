//! Words of the script language for license keys; `script` has the others.
//!
//! ```text
//! client C1 anna@x.com · ban C1 · unban C1
//! issue K1 device [alpha] [client=C1] [max=2] [take=1] [nodes=3] [ttl=+24h] [act=+14d] [from=+1d]
//!     [until=+2d] [open=1] [product=studio] [quota=tokens:100] [id=7] [offline=+1h]
//!     [features=export,share]
//! license K1 suspend|resume|cancel|revoke|reinstate|rotate:K9
//! device K1 fp-1 · verify K1 fp-1  [email=anna@x.com] [client=C1] [product=studio] [at=ADDRESS]
//! setup K1 who@x.com · cluster K1 c-1 [nodes=2] · beat K1 c-1 [tv=1] [nodes=2] · leave K1 c-1
//! host K1|- h-1 · validate K1|- h-1 [host=other]
//! activation K1 fp-1 remove|revoke|reinstate [writeoff=1]
//! trial K5 fp-1 [email=anna@x.com] [days=14]
//! report c-1 tokens:5,cpu:1.5 [of=K1] · catalog P1 studio 1 · uncatalog P1 1 · user U1 root
//! window key 2 1 · secret key-1 · active K1 · guesses
//! ```
//! The number of a key is its license's and its MAC's; `rotate:K9` changes the MAC alone.

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::license::*;
use lease::money::Measure;
use lease::outcome::UsageTotals;

use crate::script::{Line, answer, millis};
use crate::world::*;

pub(crate) fn number(word: &str) -> u128 {
    word[1..].parse().unwrap_or_else(|_| panic!("a letter and a number: {word}"))
}

pub(crate) fn mac(key: u128) -> [u8; 32] {
    let mut mac = [0; 32];
    mac[..16].copy_from_slice(&key.to_le_bytes());
    mac
}

pub(crate) fn key_row(key: u128) -> KeyRow {
    KeyRow { mac: mac(key), hint: "ABCD".into() }
}

/// A plan of one seat per activation and nothing else.
pub(crate) fn plan() -> Plan {
    Plan {
        slug: "gold".into(),
        id: 0,
        product: "".into(),
        product_id: None,
        kind: "standard".into(),
        features: Vec::new(),
        max_activations: 0,
        max_nodes: 0,
        seats_per_activation: 1,
        check: CheckMode::EachExecution,
        check_interval_s: 0,
        activation_ms: 0,
        slot_ttl_ms: 0,
        offline_ms: 0,
        trial: false,
        quotas: Vec::new(),
    }
}

pub(crate) fn license(key: u128, face: Face, package: &str) -> IssueLicense {
    let terms = LicenseTerms {
        license: LicenseId(key),
        face,
        package: package.into(),
        client: None,
        organisation: "".into(),
        plan: plan(),
        valid_from_ms: START_MS,
        valid_until_ms: None,
        open: false,
    };
    IssueLicense { terms, key: key_row(key) }
}

pub(crate) fn identity(email: &str, client: u128, fresh: u128) -> DeviceIdentity {
    DeviceIdentity {
        product: None,
        client: Some(ClientId(client)),
        email: subject(email),
        subject_client: ClientId(fresh),
    }
}

/// An activation whose ids are taken from `fresh`.
pub(crate) fn activate(key: Option<u128>, holder: &str, fresh: u64, claim: Claim) -> Activate {
    Activate {
        key_mac: key.map(mac),
        address: AddressTag(0),
        holder: holder.into(),
        activation: ActivationId(1000 + u128::from(fresh)),
        lease: lease_id(1_000_000 + fresh),
        claim,
    }
}

pub(crate) fn session() -> Sealed {
    Sealed { nonce: [1; 12], bytes: vec![2; 48] }
}

/// Runs a line if its first word is one of those above.
pub(crate) fn run(world: &mut World, line: &Line<'_>) -> Option<String> {
    match line.words[0] {
        "active" => return Some(active(world, line)),
        "guesses" => return Some(guesses(world)),
        _ => {}
    }
    let (actor, command) = command(world, line)?;
    Some(answer(&world.apply(actor, line.request(), command)))
}

/// What a line asks for and who asks.
pub(crate) fn command(world: &World, line: &Line<'_>) -> Option<(Actor, Command)> {
    let fresh = world.index;
    let face = |face| Actor::Face(face);
    let (actor, command) = match line.words[0] {
        "device" => (face(Face::Device), Command::Activate(Box::new(device(line, fresh)))),
        "verify" => {
            let by = VerifyBy::Device { key_mac: mac(key(line)), identity: identity_of(line) };
            (face(Face::Device), verify(line, fresh, by))
        }
        "setup" => {
            let contact = subject(line.word(2));
            let claim = Claim::Setup { contact, terms_accepted_at_ms: Some(START_MS) };
            (face(Face::Deployment), activation(line, "new-cluster", fresh, claim))
        }
        "cluster" => {
            let metadata = line.options.get("says").copied().unwrap_or("").into();
            let claim = Claim::Deployment { nodes: line.number("nodes", 0) as u32, metadata };
            (face(Face::Deployment), activation(line, line.word(2), fresh, claim))
        }
        "beat" => {
            let by = VerifyBy::Deployment {
                key_mac: mac(key(line)),
                token_version: line.number("tv", 1) as u32,
                nodes: line.number("nodes", 0) as u32,
            };
            (face(Face::Deployment), verify(line, fresh, by))
        }
        "leave" => {
            let holder = line.word(2).into();
            let address = AddressTag(line.number("at", 0));
            let leave = Deactivate { key_mac: mac(key(line)), address, holder };
            (face(Face::Deployment), Command::Deactivate(Box::new(leave)))
        }
        "host" => {
            let said = |name: &str| line.options.get(name).copied().unwrap_or("").into();
            let (org, project, version) = (said("org"), said("project"), said("version"));
            let claim = Claim::Evaluation { org, project, version };
            (face(Face::Evaluation), activation(line, line.word(2), fresh, claim))
        }
        "validate" => {
            let activation = evaluation_of(world, line);
            let mut command = verify(line, fresh, VerifyBy::Evaluation { activation });
            if let (Command::Verify(verify), Some(host)) = (&mut command, line.name("host")) {
                verify.holder = host;
            }
            (face(Face::Evaluation), command)
        }
        "trial" => (face(Face::Device), trial(line, fresh)),
        "report" => {
            let report = ReportUsage {
                holder: line.word(1).into(),
                address: AddressTag(line.number("at", 0)),
                metrics: metrics(line.word(2)),
                license: line.options.get("of").map(|key| LicenseId(number(key))),
            };
            (face(Face::Deployment), Command::ReportUsage(Box::new(report)))
        }
        _ => (line.operator(), operators_command(world, line)?),
    };
    let actor = match line.options.get("face") {
        Some(name) => Actor::Face(face_named(name)),
        None => actor,
    };
    Some((actor, command))
}

fn operators_command(world: &World, line: &Line<'_>) -> Option<Command> {
    let reason = || line.options.get("why").copied().unwrap_or("because").into();
    Some(match line.words[0] {
        "issue" => Command::IssueLicense(Box::new(issue(line))),
        "license" => {
            let change = match line.word(2) {
                "suspend" => LicenseChange::Suspend,
                "resume" => LicenseChange::Resume,
                "cancel" => LicenseChange::Cancel,
                "revoke" => LicenseChange::Revoke,
                "reinstate" => LicenseChange::Reinstate,
                rotate => LicenseChange::RotateKey(key_row(number(&rotate[7..]))),
            };
            let license = LicenseId(number(line.word(1)));
            Command::ChangeLicense(Box::new(ChangeLicense { license, change, reason: reason() }))
        }
        "activation" => {
            let row = world.ledger.activation_of_holder(LicenseId(key(line)), line.word(2));
            let activation = row.map_or(ActivationId(9), |row| row.activation);
            let change = match line.word(3) {
                "remove" => ActivationChange::Remove,
                "revoke" => ActivationChange::Revoke,
                _ => ActivationChange::Reinstate,
            };
            let write_off = line.number("writeoff", 0) == 1;
            let change = ChangeActivation { activation, change, reason: reason(), write_off };
            Command::ChangeActivation(Box::new(change))
        }
        "client" => Command::AddClient(AddClient {
            client: ClientId(number(line.word(1))),
            email: subject(line.word(2)),
        }),
        "ban" | "unban" => Command::ChangeClient(ChangeClient {
            client: ClientId(number(line.word(1))),
            banned: line.words[0] == "ban",
            reason: reason(),
        }),
        "catalog" => Command::PutProduct(PutProduct {
            product: ProductRow {
                product: ProductId(number(line.word(1))),
                slug: line.word(2).into(),
                version: line.word(3).parse().expect("a version"),
                document: vec![b' '; line.number("size", 2) as usize],
            },
        }),
        "uncatalog" => Command::RemoveProduct {
            product: ProductId(number(line.word(1))),
            version: line.word(2).parse().expect("a version"),
        },
        "user" => Command::AddUser(UserRow {
            user: UserId(number(line.word(1))),
            username: line.word(2).into(),
            password_hash: "$argon2id$".into(),
            created_at_ms: 0,
        }),
        "secret" => Command::PutSecret(SealedSecret {
            name: line.word(1).into(),
            version: 1,
            nonce: [0; 12],
            sealed: vec![1],
        }),
        "window" => Command::SetKeyWindow(KeyWindow {
            name: line.word(1).into(),
            current: line.word(2).parse().expect("a version"),
            minimum: line.word(3).parse().expect("a version"),
        }),
        _ => return None,
    })
}

fn face_named(name: &str) -> Face {
    Face::ALL.into_iter().find(|face| face.name() == name).expect("a face")
}

fn key(line: &Line<'_>) -> u128 {
    number(line.word(1))
}

fn span(line: &Line<'_>, name: &str) -> Option<i64> {
    line.options.get(name).map(|wait| millis(wait))
}

fn issue(line: &Line<'_>) -> IssueLicense {
    let package = line.words.get(3).copied().unwrap_or("alpha");
    let mut issue = license(key(line), face_named(line.word(2)), package);
    let (terms, number) = (&mut issue.terms, |name, default| line.number(name, default));
    terms.client = line.options.get("client").map(|client| ClientId(number_of(client)));
    terms.license = LicenseId(u128::from(number("id", terms.license.0 as u64)));
    terms.open = number("open", 0) == 1;
    terms.valid_from_ms += span(line, "from").unwrap_or(0);
    terms.valid_until_ms = span(line, "until").map(|until| START_MS + until);
    let plan = &mut terms.plan;
    plan.max_activations = number("max", 0) as u32;
    plan.max_nodes = number("nodes", 0) as u32;
    plan.seats_per_activation = number("take", 1) as u32;
    plan.slot_ttl_ms = span(line, "ttl").unwrap_or(0) as u64;
    plan.activation_ms = span(line, "act").unwrap_or(0) as u64;
    plan.offline_ms = span(line, "offline").unwrap_or(0) as u64;
    plan.product = line.name("product").unwrap_or_default();
    plan.product_id = line.options.get("pid").map(|id| ProductId(number_of(id)));
    plan.features = line.list("features").into_iter().map(feature).collect();
    plan.quotas = line.options.get("quota").map_or_else(Vec::new, |quota| metrics(quota));
    issue
}

fn feature(slug: &str) -> PlanFeature {
    let scope = PlanScope {
        slug: "create".into(),
        id: 12,
        permission: Permission::Limit,
        limit: 5,
        metadata: "{}".into(),
    };
    PlanFeature {
        slug: slug.into(),
        id: 11,
        category: "core".into(),
        enabled: true,
        scopes: vec![scope],
    }
}

fn number_of(word: &str) -> u128 {
    number(word)
}

fn identity_of(line: &Line<'_>) -> DeviceIdentity {
    let email = line.options.get("email").copied().unwrap_or("anna@x.com");
    let client = line.options.get("client").map_or(1, |client| number_of(client));
    let mut identity = identity(email, client, 500 + email.len() as u128);
    identity.product = line.options.get("product").map(|product| match product.strip_prefix('@') {
        Some(id) => ProductRef::Id(ProductId(id.parse().expect("an id"))),
        None => ProductRef::Slug((*product).into()),
    });
    identity
}

fn activation(line: &Line<'_>, holder: &str, fresh: u64, claim: Claim) -> Command {
    let key = (line.word(1) != "-").then(|| key(line));
    let address = AddressTag(line.number("at", 0));
    Command::Activate(Box::new(Activate { address, ..activate(key, holder, fresh, claim) }))
}

fn device(line: &Line<'_>, fresh: u64) -> Activate {
    let claim = Claim::Device { identity: identity_of(line), session: session() };
    let address = AddressTag(line.number("at", 0));
    Activate { address, ..activate(Some(key(line)), line.word(2), fresh, claim) }
}

fn verify(line: &Line<'_>, fresh: u64, by: VerifyBy) -> Command {
    let address = AddressTag(line.number("at", 0));
    let (holder, lease) = (line.word(2).into(), lease_id(1_000_000 + fresh));
    Command::Verify(Box::new(Verify { by, address, holder, lease }))
}

fn evaluation_of(world: &World, line: &Line<'_>) -> ActivationId {
    let license = match line.word(1) {
        "-" => world.ledger.open_license().map(|row| row.terms.license),
        _ => Some(LicenseId(key(line))),
    };
    let row = license.and_then(|license| world.ledger.activation_of_holder(license, line.word(2)));
    row.map_or(ActivationId(9), |row| row.activation)
}

fn trial(line: &Line<'_>, fresh: u64) -> Command {
    let mut issue = license(key(line), Face::Device, "alpha");
    issue.terms.plan.activation_ms = line.number("days", 14) * 86_400_000;
    issue.terms.plan.trial = true;
    let client = ClientId(line.options.get("client").map_or(77, |client| number_of(client)));
    let activate = device(line, fresh);
    Command::StartTrial(Box::new(StartTrial { issue, client, activate }))
}

fn metrics(text: &str) -> Vec<(Name, Measure)> {
    let metric = |word: &str| {
        let (name, amount) = word.split_once(':').expect("name:amount");
        (Name::from(name), Measure(amount.parse().expect("an amount")))
    };
    text.split(',').map(metric).collect()
}

fn active(world: &World, line: &Line<'_>) -> String {
    let license = LicenseId(key(line));
    let rows = world.ledger.activations_of(license);
    let mut rows: Vec<_> = rows
        .map(|row| {
            let seat = if row.lease.is_some() { "+" } else { "" };
            format!("{}:{:?}{seat}", row.holder, row.state)
        })
        .collect();
    rows.sort();
    format!("{} {}", world.ledger.active_activations(license), rows.join(" ")).trim().to_owned()
}

fn guesses(world: &World) -> String {
    let rows = world.store.keys().filter(|(table, _)| *table == lease::rows::table::GUESS);
    rows.count().to_string()
}

/// What became of an activation, in a few words.
pub(crate) fn activated(activated: &Activated) -> String {
    let what = match (activated.activation, activated.is_new) {
        (None, true) => "set-up",
        (None, false) => "set-up again",
        (Some(_), true) => "seat",
        (Some(_), false) => "same",
    };
    let token = if activated.offline.is_some() { " token" } else { "" };
    format!("{what} tv={}{token}", activated.token_version)
}

pub(crate) fn counted(totals: &UsageTotals) -> String {
    let total = |total: &lease::outcome::UsageTotal| {
        let quota = total.quota.map_or(String::new(), |quota| format!("/{}", quota.0));
        format!("{}:{}{quota}", total.metric, total.used.0)
    };
    totals.totals.iter().map(total).collect::<Vec<_>>().join(" ")
}
