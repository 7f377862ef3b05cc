//! How often one application, or one address, may ask this node.
//!
//! Each caller has a bucket of `burst` requests that fills by `per_second` (GCRA, of the crate
//! `governor`, on the node's own monotonic clock). Applications are told apart by their access
//! token, and an operator may give one a rate of its own; whoever has not shown a credential yet is
//! told apart by address, IPv6 by its /64. Operators and probes are not counted: they are needed
//! most when something runs wild.
//!
//! Whatever keeps or gives back what a caller holds (renewals, returns, verifications) is counted
//! in a bucket of its own, so that an application that asks for too much does not lose what it has.
//! That bucket is as large as the other and never smaller than the default one.
//!
//! Every answer that was counted says where the caller stands, in the fields of
//! draft-ietf-httpapi-ratelimit-headers-10: a bucket of 200 that fills by 100 a second is
//! `RateLimit-Policy: "app";q=200;w=2`, and `RateLimit: "app";r=199;t=1` says that 199 requests are
//! left and that it is full again in a second.
//!
//! Memory is bounded by [`MAX_CALLERS`] of each kind, for each of the two. Beyond, those who have
//! been quiet long enough
//! for their bucket to be full are forgotten, which changes nothing for them; where nobody is, all
//! are: a flood from so many addresses is not one caller's doing.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};
use lease::Ledger;
use lease::ids::AppId;
use parking_lot::Mutex;
use storage::seam::Clock;

use crate::failure::Failure;

/// A rate: so many requests a second, and so many at once above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub per_second: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
}

/// The rates of callers that have none of their own; `None`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Of each application.
    pub app: Option<Rate>,
    /// Of each address that has not shown a credential.
    pub address: Option<Rate>,
}

impl Default for RateLimits {
    /// Far above what the busiest application needs, and below what starves the others.
    fn default() -> Self {
        Self { app: Rate::new(20_000, 20_000), address: Rate::new(2_000, 4_000) }
    }
}

impl Rate {
    /// A rate; `None` when either number is 0.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let (per_second, burst) = (NonZeroU32::new(per_second)?, NonZeroU32::new(burst)?);
        Some(Self { per_second, burst })
    }

    /// As fast and as large as either.
    fn at_least(self, other: Self) -> Self {
        let per_second = self.per_second.max(other.per_second);
        Self { per_second, burst: self.burst.max(other.burst) }
    }

    /// Seconds in which an empty bucket fills.
    fn window_s(self) -> u32 {
        self.burst.get().div_ceil(self.per_second.get())
    }
}

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// An application.
    App(AppId),
    /// Whoever asks from an address.
    Address(IpAddr),
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Something new, or a look.
    Taking,
    /// What the caller holds already: to keep it or to give it back.
    Holding,
}

/// Where a caller stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    name: &'static str,
    rate: Rate,
    /// Requests left at once.
    remaining: u32,
    /// Seconds until the next is let in; `None`: this one was.
    retry_after_s: Option<u64>,
}

impl Standing {
    /// Says it in an answer.
    pub(crate) fn dress(self, headers: &mut HeaderMap) {
        let Self { name, rate, remaining, .. } = self;
        let policy = format!("\"{name}\";q={};w={}", rate.burst, rate.window_s());
        let missing = rate.burst.get().saturating_sub(remaining);
        let full_in_s = missing.div_ceil(rate.per_second.get());
        let limit = format!("\"{name}\";r={remaining};t={full_in_s}");
        for (header, text) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(header, value);
            }
        }
    }

    /// The answer to who asks too often: 429.
    pub(crate) fn refusal(self) -> Option<Failure> {
        let retry_after_s = self.retry_after_s?;
        let Rate { per_second, burst } = self.rate;
        let detail = format!("{per_second} requests a second and {burst} at once are let in");
        Some(Failure::too_many_requests(&detail, retry_after_s))
    }
}

/// The buckets of one node.
pub(crate) struct Rates {
    limits: RateLimits,
    apps: Pair<AppId>,
    addresses: Pair<IpAddr>,
}

impl Rates {
    pub(crate) fn new(limits: RateLimits, clock: &Arc<dyn Clock>) -> Self {
        Self { limits, apps: Pair::new(clock), addresses: Pair::new(clock) }
    }

    /// Counts a request; `None` where nothing bounds the caller.
    pub(crate) fn count(
        &self,
        caller: Caller,
        purpose: Use,
        rate_of: impl FnOnce(AppId) -> RateOf,
    ) -> Option<Standing> {
        match caller {
            Caller::App(app) => {
                let rate = match (rate_of(app), purpose) {
                    (RateOf::Default, _) => self.limits.app?,
                    (RateOf::Own(rate), Use::Taking) => rate,
                    (RateOf::Own(rate), Use::Holding) => rate.at_least(self.limits.app?),
                };
                let (buckets, name) = match purpose {
                    Use::Taking => (&self.apps.taking, "app"),
                    Use::Holding => (&self.apps.holding, "app-holding"),
                };
                Some(buckets.count(app, rate, name))
            }
            Caller::Address(address) => {
                let (buckets, name) = match purpose {
                    Use::Taking => (&self.addresses.taking, "address"),
                    Use::Holding => (&self.addresses.holding, "address-holding"),
                };
                Some(buckets.count(network(address), self.limits.address?, name))
            }
        }
    }
}

/// What the ledger says of an application's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateOf {
    /// An operator set one.
    Own(Rate),
    /// Nobody did.
    Default,
}

impl RateOf {
    /// As the ledger has it.
    pub(crate) fn app(ledger: &Ledger, app: AppId) -> Self {
        let own = ledger.app_policy(app).and_then(|policy| {
            let per_second = policy.requests_per_second?;
            Rate::new(per_second, policy.burst.max(1))
        });
        own.map_or(Self::Default, Self::Own)
    }
}

/// What is counted together: an IPv4 address, or an IPv6 network of 64 bits, which is what one
/// customer is given at least.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// The buckets of callers of one kind, by what they ask for.
struct Pair<K> {
    taking: Buckets<K>,
    holding: Buckets<K>,
}

impl<K: Eq + Hash> Pair<K> {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { taking: Buckets::new(clock), holding: Buckets::new(clock) }
    }
}

struct Buckets<K> {
    clock: SeamClock,
    callers: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    rate: Rate,
    limiter: Limiter,
    /// When it was last asked, on the monotonic clock.
    asked: Duration,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, SeamClock, StateInformationMiddleware>;

impl<K: Eq + Hash> Buckets<K> {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: SeamClock(Arc::clone(clock)), callers: Mutex::new(HashMap::new()) }
    }

    fn count(&self, caller: K, rate: Rate, name: &'static str) -> Standing {
        let now = self.clock.now();
        let mut callers = self.callers.lock();
        if callers.len() >= MAX_CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, bucket| !bucket.is_full(now));
            if callers.len() >= MAX_CALLERS {
                callers.clear();
            }
        }
        let bucket = callers.entry(caller).or_insert_with(|| Bucket::new(rate, &self.clock));
        if bucket.rate != rate {
            *bucket = Bucket::new(rate, &self.clock);
        }
        bucket.asked = now;
        match bucket.limiter.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Standing { name, rate, remaining, retry_after_s: None }
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let retry_after_s = Some(crate::failure::wait_seconds(wait_ms));
                Standing { name, rate, remaining: 0, retry_after_s }
            }
        }
    }
}

impl Bucket {
    fn new(rate: Rate, clock: &SeamClock) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone())
            .with_middleware::<StateInformationMiddleware>();
        Self { rate, limiter, asked: clock.now() }
    }

    fn is_full(&self, now: Duration) -> bool {
        now.saturating_sub(self.asked) > Duration::from_secs(u64::from(self.rate.window_s()))
    }
}

/// The node's monotonic clock as the limiter wants it.
#[derive(Clone)]
struct SeamClock(Arc<dyn Clock>);

impl GovernorClock for SeamClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic_ns())
    }
}

/// Callers of one kind and use that are remembered: at about 200 bytes each, 13 MB at most, and
/// 52 MB in all.
const MAX_CALLERS: usize = 65_536;
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Hand {
        fn pass_ms(&self, ms: u64) {
            self.0.fetch_add(ms * 1_000_000, Ordering::SeqCst);
        }
    }

    impl Clock for Hand {
        fn monotonic_ns(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn wall_ms(&self) -> i64 {
            0
        }
    }

    fn rates(app: Option<Rate>, address: Option<Rate>) -> (Arc<Hand>, Rates) {
        let hand = Arc::new(Hand::default());
        let clock: Arc<dyn Clock> = hand.clone();
        (hand, Rates::new(RateLimits { app, address }, &clock))
    }

    fn by_default(_app: AppId) -> RateOf {
        RateOf::Default
    }

    #[test]
    fn a_bucket_empties_and_fills_and_says_so() {
        let (hand, rates) = rates(Rate::new(2, 4), None);
        let caller = Caller::App(AppId(7));
        // Milliseconds that pass, then what is left, or how long to wait.
        let table: [(u64, Result<u32, u64>); 8] = [
            (0, Ok(3)),
            (0, Ok(2)),
            (0, Ok(1)),
            (0, Ok(0)),
            (0, Err(1)),
            (499, Err(1)),
            (1, Ok(0)),
            (10_000, Ok(3)),
        ];
        for (at, (pass_ms, want)) in table.into_iter().enumerate() {
            hand.pass_ms(pass_ms);
            let standing = rates.count(caller, Use::Taking, by_default).expect("a bound");
            let got = standing.retry_after_s.map_or(Ok(standing.remaining), Err);
            assert_eq!(got, want, "{at}");
            let status = standing.refusal().map(|failure| failure.status().as_u16());
            assert_eq!(status, want.is_err().then_some(429), "{at}");
        }
        let other = rates.count(Caller::App(AppId(8)), Use::Taking, by_default).expect("a bound");
        assert_eq!(other.remaining, 3, "each has its own");
    }

    #[test]
    fn answers_say_where_the_caller_stands() {
        let (_hand, rates) = rates(Rate::new(100, 200), None);
        let mut headers = HeaderMap::new();
        let standing =
            rates.count(Caller::App(AppId(1)), Use::Taking, by_default).expect("a bound");
        standing.dress(&mut headers);
        assert_eq!(headers[POLICY], "\"app\";q=200;w=2");
        assert_eq!(headers[LIMIT], "\"app\";r=199;t=1");
    }

    #[test]
    fn an_operator_sets_a_rate_and_another_at_any_time() {
        let (_hand, rates) = rates(None, None);
        let caller = Caller::App(AppId(1));
        assert_eq!(rates.count(caller, Use::Taking, by_default), None, "no bound");
        for burst in [1, 3, 2] {
            let own = |_| RateOf::Own(Rate::new(1, burst).expect("a rate"));
            let standing = rates.count(caller, Use::Taking, own).expect("a bound");
            assert_eq!(standing.remaining, burst - 1, "a new rate, a new bucket");
        }
    }

    #[test]
    fn what_is_held_is_kept_whatever_was_asked_for_beside_it() {
        let (_hand, rates) = rates(Rate::new(5, 10), Rate::new(1, 1));
        let narrow = |_| RateOf::Own(Rate::new(1, 2).expect("a rate"));
        let wide = |_| RateOf::Own(Rate::new(8, 9).expect("a rate"));
        let count = |caller, of, rate_of: fn(AppId) -> RateOf| {
            let standing = rates.count(caller, of, rate_of).expect("a bound");
            standing.retry_after_s.map_or(Ok(standing.remaining), Err)
        };
        let app = Caller::App(AppId(1));
        assert_eq!(count(app, Use::Taking, narrow), Ok(1));
        assert_eq!(count(app, Use::Taking, narrow), Ok(0));
        assert_eq!(count(app, Use::Taking, narrow), Err(1), "used up");
        assert_eq!(count(app, Use::Holding, narrow), Ok(9), "at least the default's");
        assert_eq!(count(Caller::App(AppId(2)), Use::Holding, wide), Ok(9), "the larger of each");
        let address = Caller::Address("192.0.2.1".parse().expect("an address"));
        assert_eq!(count(address, Use::Taking, narrow), Ok(0));
        assert_eq!(count(address, Use::Taking, narrow), Err(1));
        assert_eq!(count(address, Use::Holding, narrow), Ok(0));
        assert_eq!(count(address, Use::Holding, narrow), Err(1), "bounded as well");
    }

    #[test]
    fn addresses_of_one_network_share_a_bucket() {
        let (_hand, rates) = rates(None, Rate::new(1, 10));
        let table = [
            ("192.0.2.1", 9),
            ("192.0.2.1", 8),
            ("192.0.2.2", 9),
            ("2001:db8:1:2::1", 9),
            ("2001:db8:1:2:ffff::9", 8),
            ("2001:db8:1:3::1", 9),
        ];
        for (address, remaining) in table {
            let caller = Caller::Address(address.parse().expect("an address"));
            let standing = rates.count(caller, Use::Taking, by_default).expect("a bound");
            assert_eq!(standing.remaining, remaining, "{address}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_quiet_are_forgotten_first() {
        let (hand, rates) = rates(None, Rate::new(1, 2));
        let address = |number: usize| {
            let number = u32::try_from(number).expect("few");
            Caller::Address(IpAddr::V4(number.into()))
        };
        for number in 0..MAX_CALLERS {
            rates.count(address(number), Use::Taking, by_default);
        }
        hand.pass_ms(2_001);
        rates.count(address(0), Use::Taking, by_default);
        rates.count(address(MAX_CALLERS), Use::Taking, by_default);
        assert_eq!(
            rates.addresses.taking.callers.lock().len(),
            2,
            "the one that asked lately, and a new"
        );
        for number in 0..=MAX_CALLERS {
            rates.count(address(number), Use::Taking, by_default);
        }
        assert!(rates.addresses.taking.callers.lock().len() <= MAX_CALLERS);
    }
}
