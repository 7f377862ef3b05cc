//! Applications with users: they take seats, renew them, give them back, borrow, look, go away
//! without a word, and ask again, at another node and under the same key, whenever no answer came.
//!
//! Each holder is a task that holds at most one lease at a time; all of an application share its
//! access token. A holder writes down what it was told, and judges at once what it can: that no
//! lease which it was promised ends, that reads show what was answered before, that a repeated
//! request gets the answer it got.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use lease::ids::LeaseId;
use protocol::wire::UtcTime;
use serde_json::{Value, json};
use storage::testing::SeededEntropy;

use crate::history::Held;
use crate::http::{Ask, Asker, Reply};
use crate::invariants::led;
use crate::keys;
use crate::shared::{Phase, Shared};
use crate::time::BEGINNING_MS;

/// The applications' credentials, by package.
#[derive(Default)]
pub(crate) struct Apps {
    /// Client id and secret.
    pub(crate) clients: Vec<(String, String)>,
    /// The access token that is used now.
    tokens: RefCell<Vec<Option<String>>>,
}

impl Apps {
    /// With these credentials, one for each package.
    pub(crate) fn new(clients: Vec<(String, String)>) -> Rc<Self> {
        let tokens = RefCell::new(vec![None; clients.len()]);
        Rc::new(Self { clients, tokens })
    }
}

/// One user with a program.
pub(crate) struct Holder {
    shared: Rc<Shared>,
    apps: Rc<Apps>,
    number: u64,
    random: SeededEntropy,
    asker: Asker,
    acts: u64,
}

/// When a request was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at_ns: u64,
    /// How much time with a leader there can have been until then.
    most_led_ns: u64,
}

/// What came of an act that was tried until somebody answered.
enum Done {
    /// Carried out; the body, when the request that was answered was sent, and the attempts.
    Yes(Value, Sent, Vec<u128>),
    /// Refused; status and reason, and whether an earlier attempt may have been carried out.
    No(u16, String, bool),
    /// Nobody answered.
    Unknown,
}

impl Holder {
    /// The holder of this number.
    pub(crate) fn new(shared: Rc<Shared>, apps: Rc<Apps>, number: u64) -> Self {
        let random = SeededEntropy::new(shared.seed_for("holder", number));
        Self { shared, apps, number, random, asker: Asker::default(), acts: 0 }
    }

    /// Takes seats and gives them back until everybody leaves.
    pub(crate) async fn run(mut self) {
        while self.works() {
            self.pause(100, 600).await;
            let package = match self.number % 6 {
                0..=2 => 0,
                3 | 4 => 1,
                _ => 2,
            };
            if self.works()
                && let Some((lease, token)) = self.check_out(package).await
            {
                self.hold(lease, token).await;
            }
        }
    }

    fn works(&self) -> bool {
        self.shared.phase.get() < Phase::Leaving
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    async fn pause(&self, least_ms: u64, more_ms: u64) {
        tokio::time::sleep(Duration::from_millis(least_ms + self.below(more_ms))).await;
    }

    fn somewhere(&self) -> u64 {
        let members = self.shared.members.borrow();
        members[self.below(members.len() as u64) as usize]
    }

    fn now_ns(&self) -> u64 {
        self.shared.time.now_ns()
    }

    async fn token(&mut self, package: usize) -> Option<String> {
        if let Some(token) = self.apps.tokens.borrow()[package].clone() {
            return Some(token);
        }
        let (id, secret) = &self.apps.clients[package];
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let ask = Ask { body, ..Ask::new(Method::POST, "/oauth/token") };
        let node = self.somewhere();
        let Reply::Answer(200, body, _) = self.asker.ask(node, &ask).await else { return None };
        let token = body["access_token"].as_str()?.to_owned();
        self.apps.tokens.borrow_mut()[package] = Some(token.clone());
        Some(token)
    }

    /// Asks until there is an answer, at one node after the other, at most `attempts` times.
    async fn act(&mut self, package: usize, ask: Ask, attempts: u32) -> Done {
        let mut sent = Vec::new();
        let mut may_be_done = false;
        for _ in 0..attempts {
            let Some(token) = self.token(package).await else {
                self.pause(50, 200).await;
                continue;
            };
            self.acts += 1;
            let trace = u128::from(self.number + 1) << 64 | u128::from(self.acts);
            let ask = Ask { trace: Some(trace), ..ask.clone().bearer(&token) };
            let node = self.somewhere();
            let most_led_ns = self.shared.history.borrow().most_led_ns;
            let sent_now = Sent { at_ns: self.now_ns(), most_led_ns };
            let reply = self.asker.ask(node, &ask).await;
            match reply {
                Reply::Answer(status @ 200..=299, body, _) => {
                    sent.push(trace);
                    let sum = u64::from(crc32c::crc32c(body.to_string().as_bytes()));
                    self.shared.trace.note(
                        self.now_ns(),
                        "ack",
                        [self.number, node, u64::from(status), sum],
                    );
                    self.shared.totals.borrow_mut().acknowledged += 1;
                    return Done::Yes(body, sent_now, sent);
                }
                Reply::Answer(401, ..) => {
                    // The civil clock moved on, or the secret is another: a new one is asked for.
                    self.apps.tokens.borrow_mut()[package] = None;
                }
                Reply::Answer(429 | 500.., body, _) => {
                    let not_done = body["outcome"] == "not_executed";
                    if !not_done {
                        sent.push(trace);
                    }
                    may_be_done |= !not_done;
                    self.shared.totals.borrow_mut().obstacles += 1;
                    self.pause(20, 150).await;
                }
                Reply::Answer(status, body, _) => {
                    let reason = body["reason"].as_str().or(body["code"].as_str());
                    let reason = reason.unwrap_or_default().to_owned();
                    self.shared.totals.borrow_mut().refused += 1;
                    return Done::No(status, reason, may_be_done);
                }
                Reply::Lost => {
                    sent.push(trace);
                    may_be_done = true;
                    self.shared.totals.borrow_mut().lost += 1;
                }
                Reply::NotSent => {
                    self.shared.totals.borrow_mut().not_sent += 1;
                    self.pause(20, 150).await;
                }
            }
        }
        Done::Unknown
    }

    async fn check_out(&mut self, package: usize) -> Option<(LeaseId, String)> {
        let plan = self.shared.plan.packages[package].clone();
        let key = self.key();
        let name = format!("{package} {key}");
        let mut body = json!({
            "product_id": plan.name,
            "user": format!("user-{}", self.number),
            "hostname": format!("host-{}", self.number % 4),
            "metadata": { "version": "8.2.1" },
        });
        if !plan.pools.is_empty() && self.below(3) > 0 {
            let (pool, _) = &plan.pools[self.below(plan.pools.len() as u64) as usize];
            body["pool"] = json!(pool);
        }
        let path = "/api/v1/licenses/checkout";
        let ask = Ask::new(Method::POST, path).key(&key).json(&body);
        let asked_ns = self.now_ns();
        // While nothing is known of it, it may have happened.
        self.shared.history.borrow_mut().unknown_checkouts.insert(name.clone());
        let (body, sent, attempts) = match self.act(package, ask.clone(), 8).await {
            Done::Yes(body, sent, attempts) => (body, sent, attempts),
            Done::No(status, reason, may_be_done) => {
                self.not_checked_out(&name, status, &reason, may_be_done);
                return None;
            }
            Done::Unknown => return None,
        };
        let text = body["lease_id"].as_str()?.to_owned();
        let token = body["renewal_token"].as_str()?.to_owned();
        let fence = body["fence"].as_str()?.to_owned();
        let lease = self.lease_of(&text)?;
        let now_ns = self.now_ns();
        let lives_ns = body["expires_in_ms"].as_u64()? * NS_PER_MS;
        {
            let mut history = self.shared.history.borrow_mut();
            history.unknown_checkouts.remove(&name);
            history.grants.push((asked_ns, now_ns, fence.clone()));
            let (touched_led_ns, touched_terms) = led(&history);
            let held = Held {
                package,
                text: text.clone(),
                fence: fence.clone(),
                granted_ns: now_ns,
                until_ns: sent.at_ns + lives_ns,
                until_led_ns: sent.most_led_ns + lives_ns,
                touched_ns: now_ns,
                touched_led_ns,
                touched_terms,
                lives_ms: u64::from(plan.ttl_s) * 1_000,
                renewing: false,
                borrowed: false,
                token_until_ns: None,
                borrows: (0, 0),
                brought_home: (0, 0),
                return_asked_ns: None,
                returned_ns: None,
                attempts,
            };
            if history.leases.insert(lease, held).is_some() {
                drop(history);
                self.shared.violate("exactly_once", format!("{text} was given to two holders"));
                return None;
            }
        }
        if self.below(8) == 0 {
            self.ask_again(package, ask, &text, &fence).await;
        }
        Some((lease, token))
    }

    fn not_checked_out(&self, name: &str, status: u16, reason: &str, may_be_done: bool) {
        if !may_be_done {
            self.shared.history.borrow_mut().unknown_checkouts.remove(name);
        }
        if !CHECKOUT_REFUSALS.contains(&reason) {
            let what = format!("checkout {name} was refused: {status} {reason}");
            self.shared.violate("refusals_have_a_reason_that_can_be", what);
        }
    }

    /// The same request again: the same lease and fence, whoever answers.
    async fn ask_again(&mut self, package: usize, ask: Ask, lease: &str, fence: &str) {
        if let Done::Yes(body, ..) = self.act(package, ask, 3).await {
            self.shared.totals.borrow_mut().repeated += 1;
            if body["lease_id"] != lease || body["fence"] != fence {
                let what = format!("{lease} {fence}, and then {body}");
                self.shared.violate("retry_gives_the_identical_answer", what);
            }
        }
    }

    /// A key that nobody else of this application uses; other applications do, for other things.
    fn key(&self) -> String {
        let holder = match self.number % 6 {
            of_three @ 0..=2 => self.number / 6 * 3 + of_three,
            of_two @ 3..=4 => self.number / 6 * 2 + of_two - 3,
            _ => self.number / 6,
        };
        format!("key-{holder}-{}", self.acts)
    }

    fn lease_of(&self, text: &str) -> Option<LeaseId> {
        match protocol::lease_id::decode(&keys::lease_id_key(), text) {
            Ok(key) => Some(LeaseId { group: key.group, random: key.random }),
            Err(error) => {
                self.shared.violate("exactly_once", format!("{text} is no lease id: {error}"));
                None
            }
        }
    }

    /// Renews a lease until it is given back, lost or left alone.
    async fn hold(&mut self, lease: LeaseId, mut token: String) {
        let package = self.of(lease, |held| held.package);
        let ttl_ms = u64::from(self.shared.plan.packages[package].ttl_s) * 1_000;
        let mut renewals = self.below(30);
        if self.below(10) == 0 {
            renewals += 60;
        }
        let may_borrow = self.shared.plan.packages[package].borrow_s > 0;
        for _ in 0..renewals {
            self.pause(20, ttl_ms / 16).await;
            if !self.works() {
                return;
            }
            let renewed = match self.below(12) {
                0 => {
                    self.look(lease).await;
                    continue;
                }
                1 => {
                    self.look_around(package).await;
                    continue;
                }
                2 if may_borrow && !self.of(lease, |held| held.borrowed) => {
                    let borrowed = self.borrow(lease, &token).await;
                    if self.of(lease, |held| held.borrows.0 > 0) && self.below(2) == 0 {
                        // Carried away: that is what it was borrowed for.
                        return;
                    }
                    borrowed
                }
                3 if self.of(lease, |held| held.borrows.0 > 0 && held.token_until_ns.is_some()) => {
                    self.bring_home(lease, &token).await
                }
                _ => {
                    let renewed = self.renew(lease, &token).await;
                    if let Some(next) = &renewed
                        && self.below(16) == 0
                    {
                        self.replay(lease, &token, next).await;
                    }
                    renewed
                }
            };
            match renewed {
                Some(next) => token = next,
                None => return,
            }
        }
        match self.below(4) {
            // Gone without a word.
            0 => {}
            _ => self.give_back(lease).await,
        }
    }

    fn of<T>(&self, lease: LeaseId, look: impl FnOnce(&Held) -> T) -> T {
        look(&self.shared.history.borrow().leases[&lease])
    }

    fn certain_until_ns(&self, lease: LeaseId) -> u64 {
        let history = self.shared.history.borrow();
        history.certain_until_ns(&history.leases[&lease])
    }

    fn change(&self, lease: LeaseId, change: impl FnOnce(&mut Held)) {
        let mut history = self.shared.history.borrow_mut();
        let (led_ns, terms) = led(&history);
        let now_ns = self.shared.time.now_ns();
        if let Some(held) = history.leases.get_mut(&lease) {
            (held.touched_ns, held.touched_led_ns, held.touched_terms) = (now_ns, led_ns, terms);
            change(held);
        }
    }

    async fn renew(&mut self, lease: LeaseId, token: &str) -> Option<String> {
        let (package, text) = self.of(lease, |held| (held.package, held.text.clone()));
        let ttl_ms = u64::from(self.shared.plan.packages[package].ttl_s) * 1_000;
        let body = json!({ "renewal_token": token, "still_active": true });
        let path = format!("/api/v1/licenses/{text}/heartbeat");
        self.set_renewing(lease, true);
        let done = self.act(package, Ask::new(Method::PUT, path).json(&body), 4).await;
        self.set_renewing(lease, false);
        match done {
            Done::Yes(body, sent, _) => self.renewed(lease, &body, sent, ttl_ms),
            Done::No(status, reason, may_be_done) => {
                self.shared.totals.borrow_mut().refused_heartbeats += 1;
                self.refused(lease, status, &reason, "a heartbeat");
                if may_be_done {
                    self.may_be_renewed(lease, ttl_ms);
                }
                None
            }
            Done::Unknown => {
                self.may_be_renewed(lease, ttl_ms);
                None
            }
        }
    }

    fn set_renewing(&self, lease: LeaseId, renewing: bool) {
        let mut history = self.shared.history.borrow_mut();
        if let Some(held) = history.leases.get_mut(&lease) {
            held.renewing = renewing;
        }
    }

    /// Nobody said whether a heartbeat was taken, and its message may still be under way.
    fn may_be_renewed(&self, lease: LeaseId, ttl_ms: u64) {
        self.change(lease, |held| held.lives_ms = ttl_ms + UNDER_WAY_MS);
    }

    /// A copy of the program shows the token of before: it is told what was told already, or
    /// refused, and nothing comes of it.
    async fn replay(&mut self, lease: LeaseId, token: &str, next: &str) {
        let (package, text) = self.of(lease, |held| (held.package, held.text.clone()));
        let body = json!({ "renewal_token": token, "still_active": true });
        let path = format!("/api/v1/licenses/{text}/heartbeat");
        match self.act(package, Ask::new(Method::PUT, path).json(&body), 2).await {
            Done::Yes(body, ..) if body["renewal_token"] != next => {
                let what = format!("a token of {text} was good for {next}, and then {body}");
                self.shared.violate("retry_gives_the_identical_answer", what);
            }
            Done::No(status, reason, _) => {
                self.refused(lease, status, &reason, "a replayed heartbeat");
            }
            Done::Yes(..) | Done::Unknown => {}
        }
    }

    fn renewed(&self, lease: LeaseId, body: &Value, sent: Sent, ttl_ms: u64) -> Option<String> {
        let lives_ns = body["expires_in_ms"].as_u64()? * NS_PER_MS;
        let fence = body["fence"].as_str()?;
        self.change(lease, |held| {
            held.until_ns = held.until_ns.max(sent.at_ns + lives_ns);
            held.until_led_ns = held.until_led_ns.max(sent.most_led_ns + lives_ns);
            held.lives_ms = ttl_ms;
        });
        let same = self.of(lease, |held| held.fence == fence);
        if !same {
            let what = format!("a renewal of {lease:?} has the fence {fence}");
            self.shared.violate("fences_strictly_increase", what);
        }
        Some(body["renewal_token"].as_str()?.to_owned())
    }

    /// A call was refused: that is no wonder only when the lease may have ended.
    fn refused(&self, lease: LeaseId, status: u16, reason: &str, call: &str) {
        let ended = matches!(reason, "lease_ended" | "already_ended" | "unknown_lease");
        let now_ns = self.now_ns();
        if ended && now_ns < self.certain_until_ns(lease) {
            let what = format!(
                "{call} of {} was refused with {status} {reason} at {:.3} s, promised to {:.3} s",
                self.of(lease, |held| held.text.clone()),
                now_ns as f64 / 1e9,
                self.certain_until_ns(lease) as f64 / 1e9,
            );
            self.shared.violate("never_expired_early", what);
        }
        let is_known = ended
            || matches!(reason, "package_suspended" | "no_space" | "renewal_token_replayed")
            || reason.starts_with("borrow")
            || matches!(reason, "online_reserve" | "rate_limited");
        if !is_known {
            let what = format!("{call} was refused with {status} {reason}");
            self.shared.violate("refusals_have_a_reason_that_can_be", what);
        }
    }

    async fn borrow(&mut self, lease: LeaseId, token: &str) -> Option<String> {
        let (package, text) = self.of(lease, |held| (held.package, held.text.clone()));
        let seconds = self.shared.plan.packages[package].borrow_s;
        let body = json!({ "renewal_token": token, "duration_seconds": seconds });
        let path = format!("/api/v1/licenses/{text}/borrow");
        self.change(lease, |held| {
            held.borrowed = true;
            held.borrows.1 += 1;
        });
        match self.act(package, Ask::new(Method::POST, path).json(&body), 4).await {
            Done::Yes(body, sent, _) => {
                let until: UtcTime = body["borrowed_until"].as_str()?.parse().ok()?;
                let until_ms = u64::try_from(until.unix_ms - BEGINNING_MS).ok()? + SKEW_MS;
                self.change(lease, |held| {
                    held.borrows = (held.borrows.0 + 1, held.borrows.1 - 1);
                    held.token_until_ns = Some(until_ms * NS_PER_MS);
                });
                self.shared.totals.borrow_mut().borrows += 1;
                self.renewed(lease, &body, sent, u64::from(seconds) * 1_000)
            }
            Done::No(status, reason, may_be_done) => {
                self.refused(lease, status, &reason, "a borrow");
                // As many are borrowed as may be: the lease lives on.
                (!may_be_done && matches!(status, 403 | 409)).then(|| token.to_owned())
            }
            Done::Unknown => None,
        }
    }

    /// Whether the cluster may say that an offline token which counts until then is over.
    fn is_over(&self, lease: LeaseId, token_until_ns: u64) -> bool {
        let history = self.shared.history.borrow();
        history.token_may_be_over(&history.leases[&lease], token_until_ns, self.now_ns())
    }

    /// Gives an offline token up before it ends: the lease goes on as an ordinary one.
    async fn bring_home(&mut self, lease: LeaseId, token: &str) -> Option<String> {
        let (package, text) = self.of(lease, |held| (held.package, held.text.clone()));
        let ttl_ms = u64::from(self.shared.plan.packages[package].ttl_s) * 1_000;
        let path = format!("/api/v1/licenses/{text}/return-borrow");
        let ask = Ask::new(Method::POST, path).json(&json!({ "renewal_token": token }));
        let (now_ns, most_led_ns) = (self.now_ns(), self.shared.history.borrow().most_led_ns);
        let token_until_ns = self.of(lease, |held| held.token_until_ns)?;
        self.change(lease, |held| {
            held.token_until_ns = None;
            held.until_ns = held.until_ns.min(now_ns + ttl_ms * NS_PER_MS);
            held.until_led_ns = held.until_led_ns.min(most_led_ns + ttl_ms * NS_PER_MS);
            held.brought_home.1 += 1;
        });
        match self.act(package, ask, 4).await {
            Done::Yes(body, sent, _) => {
                self.change(lease, |held| {
                    held.brought_home = (held.brought_home.0 + 1, held.brought_home.1 - 1);
                    held.borrowed = held.borrows.1 > 0;
                });
                self.shared.totals.borrow_mut().early_returns += 1;
                self.renewed(lease, &body, sent, ttl_ms)
            }
            Done::No(_, reason, _)
                if reason == "not_borrowed" && self.is_over(lease, token_until_ns) =>
            {
                Some(token.to_owned())
            }
            Done::No(status, reason, _) => {
                self.refused(lease, status, &reason, "an early return");
                None
            }
            Done::Unknown => None,
        }
    }

    async fn give_back(&mut self, lease: LeaseId) {
        let (package, text) = self.of(lease, |held| (held.package, held.text.clone()));
        let body = json!({ "lease_id": text, "usage_metadata": {} });
        let path = format!("/api/v1/licenses/{text}/return");
        let key = format!("return-{}-{}", self.number, self.acts);
        let ask = Ask::new(Method::POST, path).key(&key).json(&body);
        let until_ns = self.certain_until_ns(lease);
        let asked_ns = self.now_ns();
        self.change(lease, |held| held.return_asked_ns = Some(asked_ns));
        match self.act(package, ask, 6).await {
            Done::Yes(..) => {
                let now_ns = self.now_ns();
                self.change(lease, |held| held.returned_ns = Some(now_ns));
                self.shared.totals.borrow_mut().returns += 1;
                if self.below(3) == 0 {
                    self.look(lease).await;
                }
            }
            Done::No(status, reason, may_be_done) => {
                if !may_be_done && self.now_ns() < until_ns && reason == "already_ended" {
                    let what = format!("{text} had ended when it was given back: {status}");
                    self.shared.violate("never_expired_early", what);
                }
            }
            Done::Unknown => {}
        }
    }

    /// Reads the lease: what was answered before must show.
    async fn look(&mut self, lease: LeaseId) {
        let (package, text) = self.of(lease, |held| (held.package, held.text.clone()));
        let Some(token) = self.token(package).await else { return };
        let stale = self.below(4) == 0;
        let query = if stale { "?consistency=stale" } else { "" };
        let ask = Ask::new(Method::GET, format!("/api/v1/licenses/{text}{query}")).bearer(&token);
        let node = self.somewhere();
        let returned = self.of(lease, |held| held.returned_ns.is_some());
        let Reply::Answer(status, body, index) = self.asker.ask(node, &ask).await else { return };
        let certain = self.now_ns() < self.certain_until_ns(lease);
        self.note_read(node, stale);
        let wrong = match status {
            200 if stale => index.is_none(),
            200 => returned,
            404 | 410 => certain && !stale,
            _ => false,
        };
        if wrong {
            let what = format!("node {node} says {status} of {text}, stale {stale}: {body}");
            self.shared.violate("a_read_shows_what_was_acknowledged", what);
        }
    }

    /// Reads how many seats are out: not fewer than are certainly held all the while.
    async fn look_around(&mut self, package: usize) {
        let Some(token) = self.token(package).await else { return };
        let name = self.shared.plan.packages[package].name.clone();
        let path = format!("/api/v1/licenses/discover?product={name}");
        let ask = Ask::new(Method::GET, path).bearer(&token);
        let asked_ns = self.now_ns();
        let node = self.somewhere();
        let Reply::Answer(200, body, _) = self.asker.ask(node, &ask).await else { return };
        let now_ns = self.now_ns();
        self.note_read(node, false);
        let certain = {
            let history = self.shared.history.borrow();
            let all = history.leases.values().filter(|held| held.package == package);
            let certain = |held: &&Held| {
                held.granted_ns < asked_ns && now_ns < history.certain_until_ns(held)
            };
            all.filter(certain).count() as u64
        };
        let found = &body["licenses"][0];
        let (in_use, total) = (found["in_use"].as_u64(), found["total"].as_u64());
        if in_use.is_none_or(|in_use| in_use < certain || Some(in_use) > total) {
            let what = format!("node {node} counts {in_use:?} of {total:?}, {certain} are held");
            self.shared.violate("a_read_shows_what_was_acknowledged", what);
        }
    }

    fn note_read(&self, node: u64, stale: bool) {
        let on_follower = self.shared.leader().is_some_and(|leader| leader != node);
        let mut totals = self.shared.totals.borrow_mut();
        totals.reads += 1;
        totals.stale_reads += u64::from(stale);
        totals.follower_reads += u64::from(on_follower);
    }
}

const NS_PER_MS: u64 = 1_000_000;
/// How slow the clock of a device with an offline token may be: a term of the package.
pub(crate) const SKEW_MS: u64 = 1_000;
/// Why a checkout may be refused. A pool whose last seat was moved elsewhere is gone until one
/// comes back; who asks again may find that what was granted has ended.
const CHECKOUT_REFUSALS: [&str; 5] =
    ["max_overage_exceeded", "pool_exhausted", "unknown_pool", "package_suspended", "lease_ended"];
/// How long after a holder gave up its request may still arrive and be carried out.
const UNDER_WAY_MS: u64 = 3_000;
