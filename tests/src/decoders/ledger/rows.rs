//! A row of every table for license keys, activations and offline use.

use lease::command::Sealed;
use lease::format::{self, Kind};
use lease::ids::{
    ActivationId, ApiKeyId, ClientId, Face, LeaseId, LicenseId, ProductId, SubjectRef, UserId,
};
use lease::license::{
    ActivationRow, ActivationState, CheckMode, ClientRow, GuessRow, IdentityRow, KeyRow, KeyWindow,
    LicenseRow, LicenseState, LicenseTerms, Permission, Plan, PlanFeature, PlanScope, ProductRow,
    TrialRow, UserRow,
};
use lease::money::{Measure, Money};
use lease::offline::{ApiKeyRow, BorrowParty, BorrowRules, BudgetRow, HoldRow, OfflineTerms};
use lease::rows::table;
use serde::Serialize;

use super::Row;

const LICENSE: LicenseId = LicenseId(0x11);
const START_MS: i64 = 1_795_300_000_000;

pub(super) fn made() -> Vec<Row> {
    let id = |number: u128| number.to_be_bytes().to_vec();
    let short = |number: u64| number.to_be_bytes().to_vec();
    let name = |name: &str| name.as_bytes().to_vec();
    let hold = hold();
    let hold_key = [&hold.lease.group.to_be_bytes()[..], &hold.lease.random].concat();
    vec![
        row(table::LICENSE, id(LICENSE.0), &license()),
        row(table::ACTIVATION, id(0x21), &activation()),
        row(table::CLIENT, id(0x31), &client()),
        row(table::PRODUCT, id(0x41), &product()),
        row(table::USER, id(0x51), &user()),
        row(table::TRIAL, name("device-1"), &trial()),
        row(table::IDENTITY, [id(LICENSE.0), short(5)].concat(), &identity()),
        row(table::GUESS, short(0), &GuessRow { since_led_ms: 1_000, count: 3 }),
        row(table::LICENSE_USAGE, [id(LICENSE.0), name("tokens")].concat(), &measure(12)),
        row(table::HOLD, hold_key, &hold),
        row(table::OFFLINE_TERMS, name("alpha"), &offline_terms()),
        row(table::BORROW_RULES, name("alpha"), &borrow_rules()),
        row(table::KEY_WINDOW, name("evaluation"), &key_window()),
        row(table::API_KEY, short(7), &api_key()),
        row(table::BUDGET, name("alpha"), &budget()),
    ]
}

fn row<T: Serialize>(table: u8, key: Vec<u8>, value: &T) -> Row {
    (table, key, format::encode(Kind::Row, 1, value))
}

fn measure(units: i64) -> Measure {
    Measure(units.into())
}

fn license() -> LicenseRow {
    let scope = PlanScope {
        slug: "pdf".into(),
        id: 3,
        permission: Permission::Limit,
        limit: 100,
        metadata: r#"{"unit":"pages"}"#.into(),
    };
    let feature = PlanFeature {
        slug: "export".into(),
        id: 2,
        category: "io".into(),
        enabled: true,
        scopes: vec![scope],
    };
    let plan = Plan {
        slug: "gold".into(),
        id: 1,
        product: "davinci".into(),
        product_id: Some(ProductId(0x41)),
        kind: "pro".into(),
        features: vec![feature],
        max_activations: 5,
        max_nodes: 3,
        seats_per_activation: 1,
        check: CheckMode::Custom,
        check_interval_s: 3_600,
        activation_ms: 86_400_000,
        slot_ttl_ms: 86_400_000,
        offline_ms: 3_600_000,
        trial: false,
        quotas: vec![("tokens".into(), measure(1_000))],
    };
    let terms = LicenseTerms {
        license: LICENSE,
        face: Face::Device,
        package: "alpha".into(),
        client: Some(ClientId(0x31)),
        organisation: "Example Corp".into(),
        plan,
        valid_from_ms: START_MS,
        valid_until_ms: Some(START_MS + 1_000_000),
        open: false,
    };
    LicenseRow {
        terms,
        key: KeyRow { mac: [9; 32], hint: "JXQ5P".into() },
        state: LicenseState::Active,
        reason: "".into(),
        changed_at_ms: START_MS,
        issued_at_ms: START_MS,
        token_version: 1,
        last_activated_at_ms: Some(START_MS),
        terms_accepted_at_ms: None,
        contact: SubjectRef(5),
    }
}

fn activation() -> ActivationRow {
    ActivationRow {
        activation: ActivationId(0x21),
        license: LICENSE,
        holder: "device-1".into(),
        state: ActivationState::Active,
        lease: None,
        contact: SubjectRef(5),
        subject_client: Some(ClientId(0x31)),
        session: Some(Sealed { nonce: [1; 12], bytes: vec![2; 48] }),
        activated_at_ms: START_MS,
        last_seen_at_ms: START_MS,
        valid_until_ms: None,
        org: "org".into(),
        project: "project".into(),
        version: "1.0".into(),
        nodes: 0,
        metadata: "{}".into(),
    }
}

fn client() -> ClientRow {
    ClientRow {
        client: ClientId(0x31),
        email: SubjectRef(5),
        created_at_ms: START_MS,
        updated_at_ms: START_MS,
        banned_at_ms: Some(START_MS),
        ban_reason: "fraud".into(),
    }
}

fn product() -> ProductRow {
    let document = br#"{"plans":[]}"#.to_vec();
    ProductRow { product: ProductId(0x41), slug: "davinci".into(), version: 1, document }
}

fn user() -> UserRow {
    UserRow {
        user: UserId(0x51),
        username: "root".into(),
        password_hash: "$argon2id$".into(),
        created_at_ms: START_MS,
    }
}

fn trial() -> TrialRow {
    TrialRow {
        holder: "device-1".into(),
        license: LICENSE,
        started_at_ms: START_MS,
        ends_at_ms: START_MS + 1_000,
    }
}

fn identity() -> IdentityRow {
    IdentityRow {
        license: LICENSE,
        contact: SubjectRef(5),
        subject_client: ClientId(0x31),
        granted_at_ms: START_MS,
    }
}

fn hold() -> HoldRow {
    HoldRow {
        // The lease of the golden row.
        lease: LeaseId { group: 0, random: *b"\0\0\x17\x15\x60\x9f\x7c\x74\x6c\x69" },
        ends_ms: START_MS,
        skew_ms: 600_000,
        version: 1,
        borrowed: true,
    }
}

fn offline_terms() -> OfflineTerms {
    OfflineTerms {
        tokens: true,
        borrow_max_ms: 86_400_000,
        borrow_seats_max: Some(2),
        online_reserve: 1,
    }
}

fn borrow_rules() -> BorrowRules {
    BorrowRules {
        max_ms: Some(1_000),
        seats_max: None,
        online_reserve: 1,
        include: vec![BorrowParty::User("alice".into())],
        exclude: vec![BorrowParty::Host("kiosk".into())],
    }
}

fn key_window() -> KeyWindow {
    KeyWindow { name: "evaluation".into(), current: 2, minimum: 1 }
}

fn api_key() -> ApiKeyRow {
    ApiKeyRow {
        key: ApiKeyId(7),
        mac: [8; 32],
        name: "ci".into(),
        environment: "live".into(),
        tenant: "acme".into(),
        created_at_ms: START_MS,
    }
}

fn budget() -> BudgetRow {
    BudgetRow { month: 202_611, charged: Money(500.into()), max_spend: Some(Money(1_500.into())) }
}
