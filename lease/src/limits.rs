//! Every bound of the ledger, each with its reason.
//!
//! A bound is part of the rules: replicas that differ in one would differ in what they decide, so
//! production has exactly one set, [`LedgerLimits::PRODUCTION`]. Tests make smaller ones to reach
//! the edges.

/// Rows of the request table at which keyed requests are refused: at about 260 bytes a row the
/// table stays under a third of the memory planned for a million leases.
pub const MAX_REQUEST_IDS: usize = 1_048_576;
/// Leases that one entry may end because they are due: keeps `apply` of an entry that follows a
/// long silence below some fifty milliseconds. What remains due is treated as ended and swept by
/// the next.
pub const EXPIRIES_PER_ENTRY: usize = 4096;
/// Led milliseconds for which a caller's key is remembered after what it made has ended.
pub const CALLER_REQUEST_MS: u64 = 15 * 60 * 1000;
/// Led milliseconds for which a gateway's own key is remembered: longer than any of its retries.
pub const GATEWAY_REQUEST_MS: u64 = 30 * 1000;
/// Led milliseconds after a renewal in which the token before the current one still gets the same
/// answer, for a holder whose answer was lost.
pub const PREVIOUS_TOKEN_MS: u64 = 30 * 1000;
/// Leases in one heartbeat; the bulk endpoint's limit.
pub const MAX_RENEWALS: usize = 1000;
/// Bytes of a name (package, product, pool, feature, client id): names are keys of rows, and a key
/// of two names stays under a kilobyte.
pub const MAX_NAME_BYTES: usize = 256;
/// Characters of a free text (reason, shown name, version, session, host or user name).
pub const MAX_TEXT_CHARS: usize = 256;
/// Features in one checkout or one usage report.
pub const MAX_FEATURES: usize = 64;
/// Characters of a feature's name in a usage report.
pub const MAX_FEATURE_CHARS: usize = 64;
/// Feature names counted per package; further names are counted as `other_features`.
pub const MAX_COUNTED_FEATURES: usize = 256;
/// Named pools of one package.
pub const MAX_POOLS: usize = 1024;
/// Packages: each holds its signed document in memory.
pub const MAX_PACKAGES: usize = 65_536;
/// Bytes of a package's signed document and its terms together, as stored.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// Bytes of one stored piece of a package's document; a row holds at most 64 KiB.
pub(crate) const DOCUMENT_PIECE_BYTES: usize = 32 * 1024;
/// Applications.
pub const MAX_APPS: usize = 65_536;
/// Vendors.
pub const MAX_VENDORS: usize = 4096;
/// Operator tokens.
pub const MAX_OPERATORS: usize = 4096;
/// Members, and invitations that may become some.
pub const MAX_MEMBERS: usize = 1024;
/// Published signing keys.
pub const MAX_SIGNING_KEYS: usize = 4096;
/// Bytes of a public key, DER: RSA of 16,384 bits with room.
pub const MAX_PUBLIC_KEY_BYTES: usize = 4096;
/// Sealed secrets.
pub const MAX_SECRETS: usize = 256;
/// Bytes of one sealed secret.
pub const MAX_SEALED_BYTES: usize = 16 * 1024;
/// Wraps of the data key: nodes times versions.
pub const MAX_WRAPPED_KEYS: usize = 4096;
/// Bytes of one wrap.
pub const MAX_WRAPPED_BYTES: usize = 1024;
/// Different (actor, package, reason) logged in one civil minute; refusals beyond are counted only.
pub const MAX_REFUSALS_LOGGED: usize = 1024;
/// Bytes of a block of audit events or ended requests.
pub const MAX_BLOCK_BYTES: usize = 32 * 1024;
/// People and hosts whose names are kept. A name beyond gets a reference that stands for nothing:
/// a full book of names must not keep anybody from working.
pub const MAX_SUBJECTS: usize = 4_194_304;
/// Licenses: with a plan of usual size a row takes about a kilobyte of memory.
pub const MAX_LICENSES: usize = 262_144;
/// Bytes of a license's row: it holds a copy of its plan and must fit into a row of 64 KiB.
pub const MAX_LICENSE_BYTES: usize = 48 * 1024;
/// Features of a plan, scopes of a feature, metrics with a quota.
pub const MAX_PLAN_ITEMS: usize = 64;
/// Bytes of a scope's metadata, and of what a cluster says of itself.
pub const MAX_METADATA_BYTES: usize = 1024;
/// Bytes of a fingerprint, cluster id or hash: the longest that a protocol allows.
pub const MAX_HOLDER_BYTES: usize = 128;
/// Bytes of a session key sealed for one activation.
pub const MAX_SESSION_BYTES: usize = 1024;
/// Activations, given back ones included: as many as leases are planned for, four times over.
pub const MAX_ACTIVATIONS: usize = 4_194_304;
/// Clusters of one license that are remembered after they gave its slot back: whoever has the key
/// can name as many clusters as they like. Beyond, the one heard longest ago is forgotten.
pub const MAX_RELEASED_CLUSTERS: usize = 64;
/// Delegates of one license, or people that its setup calls name beyond the first: whoever has its
/// key can name as many addresses as they like.
pub const MAX_DELEGATES: usize = 256;
/// Clients, users and trials: each row takes some hundred bytes.
pub const MAX_CLIENTS: usize = 1_048_576;
/// Products of the catalog.
pub const MAX_PRODUCTS: usize = 4096;
/// Bytes of a product's document: a row holds at most 64 KiB.
pub const MAX_PRODUCT_BYTES: usize = 48 * 1024;
/// Metrics counted for one license beside those with a quota, which are always counted.
pub const MAX_LICENSE_METRICS: usize = 64;
/// Rotating keys.
pub const MAX_KEY_WINDOWS: usize = 64;
/// Led milliseconds over which wrong keys are counted.
pub const GUESS_WINDOW_MS: u64 = 15 * 60 * 1000;
/// Wrong keys from one address in a window: room for a person who mistypes.
pub const MAX_GUESSES_PER_ADDRESS: u32 = 10;
/// Wrong keys from all addresses in a window: against 2^200 device keys hopeless, and against the
/// shorter keys of other faces slow.
pub const MAX_GUESSES: u32 = 1000;
/// Led milliseconds over which trials are counted, and activations without a key.
pub const TRIAL_WINDOW_MS: u64 = 24 * 3600 * 1000;
/// Trials from one address in a window, and as many activations without a key: whoever makes up
/// fingerprints or hosts does not drain a product.
pub const MAX_TRIALS_PER_ADDRESS: u32 = 5;
/// Addresses counted one by one; those beyond count in the total alone.
pub const MAX_GUESS_ROWS: usize = 65_536;
/// Users and hosts named in either list of a package's borrow rules.
pub const MAX_BORROW_PARTIES: usize = 256;
/// Bytes of a package's borrow rules: a row holds at most 64 KiB.
pub const MAX_BORROW_RULES_BYTES: usize = 48 * 1024;
/// Keys of the classic face.
pub const MAX_API_KEYS: usize = 65_536;
/// Led milliseconds that a seat of the classic face lasts at least: shorter than any session.
pub const MIN_CLASSIC_TTL_MS: u64 = 1000;
/// Led milliseconds that a seat of the classic face lasts at most: nobody renews it, so one that is
/// forgotten is gone for so long.
pub const MAX_CLASSIC_TTL_MS: u64 = 31 * 24 * 3600 * 1000;
/// Rows kept of nodes that were removed or never came.
pub const MAX_FORMER_MEMBERS: usize = 1024;
/// Join tokens that are good at once.
pub const MAX_TICKETS: usize = 64;
/// Led milliseconds for which a join token is good at most: a day, for hands that travel.
pub const MAX_TICKET_MS: u64 = 24 * 3600 * 1000;
/// Civil milliseconds for which tokens of a removed node's key are still believed: as long as an
/// access token lives.
pub const TOKEN_LIFETIME_MS: i64 = 3600 * 1000;
/// Led milliseconds of the grace after an epoch was opened, at the least: the usual term of a
/// lease.
pub const MIN_GRACE_MS: u64 = 15 * 60 * 1000;
/// Led milliseconds for which activations alone make that grace last at most: a plan may let a
/// device go on for a month without asking, and nobody new is let in meanwhile.
pub const MAX_ACTIVATION_GRACE_MS: u64 = 3600 * 1000;
/// Certificate authorities at once: the one that issues, one before it and one after, with room.
pub const MAX_TRUST_ANCHORS: usize = 8;
/// Bytes of an authority's certificate, DER.
pub const MAX_CERTIFICATE_BYTES: usize = 4096;
/// Users, hosts and applications for which one pool is kept.
pub const MAX_POOL_PARTIES: usize = 256;
/// Bytes of a pool's rule: a row holds at most 64 KiB.
pub const MAX_POOL_RULE_BYTES: usize = 48 * 1024;
/// Certificates that one application may show.
pub const MAX_APP_CERTIFICATES: usize = 16;

/// The bounds that tests need to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerLimits {
    /// See [`MAX_REQUEST_IDS`].
    pub request_rows: usize,
    /// See [`EXPIRIES_PER_ENTRY`].
    pub expiries_per_entry: usize,
    /// See [`MAX_REFUSALS_LOGGED`].
    pub refusals_logged: usize,
    /// See [`MAX_SUBJECTS`].
    pub subjects: usize,
}

impl LedgerLimits {
    /// What every node runs with.
    pub const PRODUCTION: Self = Self {
        request_rows: MAX_REQUEST_IDS,
        expiries_per_entry: EXPIRIES_PER_ENTRY,
        refusals_logged: MAX_REFUSALS_LOGGED,
        subjects: MAX_SUBJECTS,
    };
}
