//! The state of a package, and what each step makes of it.

use std::collections::BTreeSet;

use super::{
    Asked, BorrowAnswer, Borrowed, CheckoutAnswer, Class, HeartbeatAnswer, KeyNo, Lateness, Lease,
    LeaseNo, Live, Pool, PoolNo, ReturnAnswer, Step, Terms,
};

/// The state of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    terms: Terms,
    leases: Vec<Lease>,
    pools: Vec<Pool>,
    keys: Vec<bool>,
    live: BTreeSet<LeaseNo>,
    /// Leases of which nobody asks any more how they ended.
    alike: BTreeSet<LeaseNo>,
    last_fence: Option<u32>,
    digest: u128,
}

/// What a step changed, so that it can be taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    lease: Option<(LeaseNo, Lease)>,
    pools: [Option<(PoolNo, Pool)>; 2],
    key: Option<KeyNo>,
    borrow_key: Option<KeyNo>,
    last_fence: Option<Option<u32>>,
}

impl Undo {
    /// Whether the step changed nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Package {
    /// A package of which nothing is out, with room for so many leases and keys. The share of pool
    /// 0 is what the others leave.
    pub fn new(terms: Terms, leases: usize, pools: &[u32], keys: usize) -> Self {
        let shared: u32 = pools.iter().sum();
        let rest = (terms.commit + terms.overage).saturating_sub(shared);
        let shares = std::iter::once(rest).chain(pools.iter().copied());
        Self {
            terms,
            leases: vec![Lease::Unborn; leases],
            pools: shares.map(|share| Pool { share, in_use: 0 }).collect(),
            keys: vec![false; keys],
            live: BTreeSet::new(),
            alike: BTreeSet::new(),
            last_fence: None,
            digest: 0,
        }
    }

    /// Says that nobody asks how a lease ended: all its ends are one to [`Package::digest`].
    pub fn end_alike(&mut self, lease: LeaseNo) {
        self.alike.insert(lease);
    }

    /// How a lease stands.
    pub fn lease(&self, lease: LeaseNo) -> Lease {
        self.leases[lease]
    }

    /// The live leases.
    pub fn live(&self) -> &BTreeSet<LeaseNo> {
        &self.live
    }

    /// A number that two states share only if they are the same, up to chance.
    pub fn digest(&self) -> u128 {
        self.digest ^ scramble(3, self.last_fence.map_or(0, |fence| u128::from(fence) + 1))
    }

    /// Seats out, of one class or of all.
    pub fn in_use(&self, class: Option<Class>) -> u32 {
        let counted = self.live_leases().filter(|live| class.is_none_or(|it| it == live.class));
        counted.map(|live| live.seats).sum()
    }

    /// The pools; the first is of the seats that are in none.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Seats that there are.
    pub fn total(&self) -> u32 {
        self.terms.commit + self.terms.overage
    }

    /// Takes a step if its answer is right here; gives what it changed.
    pub fn apply(&mut self, asked: Asked, step: &Step) -> Option<Undo> {
        match step {
            Step::Checkout { lease, seats, pool, fence, answer } => {
                self.check_out(asked, *lease, (*seats, *pool), *fence, *answer)
            }
            Step::Heartbeat { lease, sent, late, answer } => {
                self.heartbeat(asked, *lease, *sent, *late, *answer)
            }
            Step::Return { lease, key, answer } => self.give_back(*lease, *key, *answer),
            Step::Borrow { lease, key, answer } => self.borrow(asked, *lease, *key, *answer),
            Step::ReturnBorrow { lease, key, answer } => {
                self.return_borrow(asked, *lease, *key, *answer)
            }
            Step::Transfer { from, to, seats, key, answer } => {
                self.transfer((*from, *to), *seats, *key, *answer)
            }
            Step::ReadPackage { in_use, total, live } => {
                let same = live.as_ref().is_none_or(|live| *live == self.live);
                right(self.in_use(None) == *in_use && self.total() == *total && same)
            }
            Step::ReadLease { lease, live } => right(self.live.contains(lease) == *live),
            Step::ReadPools { shares } => right(shares.iter().all(|(pool, share, in_use)| {
                self.pools[*pool] == Pool { share: *share, in_use: *in_use }
            })),
            Step::Never => None,
        }
    }

    /// Whether an answer is right as one to a repeat, by a client that lost the first answer and
    /// asks under another key: a borrow of a lease that is borrowed, and the return of a borrow of
    /// one that is not.
    pub fn repeats(&self, step: &Step) -> bool {
        let is_borrowed = |lease: &LeaseNo| match self.leases[*lease] {
            Lease::Live(live) => Some(live.borrowed),
            _ => None,
        };
        match step {
            Step::Borrow { lease, answer: Some(BorrowAnswer::Done), .. } => {
                match is_borrowed(lease) {
                    Some(Borrowed::Yes { .. }) => true,
                    // A renewal came since: where tokens rotate, the borrow's is an older one.
                    Some(Borrowed::Perhaps) => !self.terms.rotation,
                    Some(Borrowed::No) | None => false,
                }
            }
            Step::ReturnBorrow { lease, answer: Some(BorrowAnswer::Done), .. } => {
                is_borrowed(lease) == Some(Borrowed::No)
            }
            _ => false,
        }
    }

    /// Ends a live lease at a moment that is no later than `latest_ns`.
    pub fn expire(&mut self, lease: LeaseNo, latest_ns: u64) -> Option<Undo> {
        match self.leases[lease] {
            Lease::Live(live) if live.until_ns <= latest_ns => {
                Some(self.end(lease, live, Lease::Expired))
            }
            _ => None,
        }
    }

    /// Takes a step back; steps are taken back in the reverse order.
    pub fn undo(&mut self, undo: Undo) {
        if let Some((lease, before)) = undo.lease {
            self.set_lease(lease, before);
        }
        for (pool, before) in undo.pools.into_iter().flatten() {
            self.set_pool(pool, before);
        }
        if let Some(key) = undo.key {
            self.flip_key(key);
        }
        if let Some(key) = undo.borrow_key {
            self.keys[key] = false;
        }
        if let Some(before) = undo.last_fence {
            self.last_fence = before;
        }
    }

    fn check_out(
        &mut self,
        asked: Asked,
        lease: LeaseNo,
        (seats, pool): (u32, PoolNo),
        fence: Option<u32>,
        answer: Option<CheckoutAnswer>,
    ) -> Option<Undo> {
        use CheckoutAnswer::{Ended, Full, Granted, PoolFull};
        match (self.leases[lease], answer) {
            (Lease::Live(live), Some(Granted { class, sequence })) => {
                right(class.is_none_or(|told| told == live.class) && live.sequence == sequence)
            }
            (Lease::Returned(_) | Lease::Expired, Some(Ended)) => right(true),
            (Lease::Unborn, answer) => {
                let found = self.choose(pool, seats);
                let class = match (found, answer) {
                    (Ok(class), None) => class,
                    (Ok(class), Some(Granted { class: told, sequence: 1 }))
                        if told.is_none_or(|told| told == class) =>
                    {
                        class
                    }
                    (Err(full), Some(told)) => return right(full == told),
                    _ => return None,
                };
                debug_assert!(!matches!(answer, Some(Full | PoolFull)));
                let rises = match (fence, self.last_fence) {
                    (Some(fence), Some(last)) => fence > last,
                    _ => true,
                };
                rises.then(|| self.grant(asked, lease, class, (seats, pool), fence))
            }
            _ => None,
        }
    }

    fn grant(
        &mut self,
        asked: Asked,
        lease: LeaseNo,
        class: Class,
        (seats, pool): (u32, PoolNo),
        fence: Option<u32>,
    ) -> Undo {
        let live = Live {
            class,
            seats,
            pool,
            sequence: 1,
            extended_ns: asked.invoke_ns,
            until_ns: asked.until_ns,
            borrowed: Borrowed::No,
            keys: 0,
        };
        let last_fence = fence.map(|_| self.last_fence);
        if fence.is_some() {
            self.last_fence = fence;
        }
        let before = self.pools[pool];
        self.set_pool(pool, Pool { in_use: before.in_use + seats, ..before });
        let undo = Undo { pools: [Some((pool, before)), None], last_fence, ..Undo::default() };
        Undo { lease: Some((lease, self.set_lease(lease, Lease::Live(live)))), ..undo }
    }

    /// Commit seats first, then overage; the package before its pool.
    fn choose(&self, pool: PoolNo, seats: u32) -> Result<Class, CheckoutAnswer> {
        let free = |class, bought: u32| bought.saturating_sub(self.in_use(Some(class)));
        let class = if free(Class::Commit, self.terms.commit) >= seats {
            Class::Commit
        } else if free(Class::Overage, self.terms.overage) >= seats {
            Class::Overage
        } else {
            return Err(CheckoutAnswer::Full);
        };
        let Pool { share, in_use } = self.pools[pool];
        if share.saturating_sub(in_use) >= seats {
            Ok(class)
        } else {
            Err(CheckoutAnswer::PoolFull)
        }
    }

    fn heartbeat(
        &mut self,
        asked: Asked,
        lease: LeaseNo,
        sent: u32,
        late: Lateness,
        answer: Option<HeartbeatAnswer>,
    ) -> Option<Undo> {
        use HeartbeatAnswer::{Ended, NoSuchLease, Renewed, Replayed};
        let live = match (self.leases[lease], answer) {
            (Lease::Live(live), _) => live,
            (Lease::Unborn, Some(NoSuchLease)) => return right(true),
            (Lease::Returned(_) | Lease::Expired, Some(Ended)) => return right(true),
            _ => return None,
        };
        let rotates = self.terms.rotation;
        let is_current = if rotates { sent == live.sequence } else { sent <= live.sequence };
        let is_before = sent + 1 == live.sequence;
        match answer {
            None if is_current => Some(self.extend(asked, lease, live, renewed(asked, live))),
            Some(Renewed { next }) if is_current && next == live.sequence + u32::from(rotates) => {
                Some(self.extend(asked, lease, live, renewed(asked, live)))
            }
            Some(Renewed { next }) if !is_current => right(is_before && next == live.sequence),
            Some(Replayed) if !is_current => right(!is_before || live.extended_ns < late.before_ns),
            _ => None,
        }
    }

    fn give_back(
        &mut self,
        lease: LeaseNo,
        key: KeyNo,
        answer: Option<ReturnAnswer>,
    ) -> Option<Undo> {
        use ReturnAnswer::{AlreadyEnded, NoSuchLease, Returned};
        match (self.leases[lease], answer) {
            (Lease::Live(live), None | Some(Returned)) => {
                Some(self.end(lease, live, Lease::Returned(key)))
            }
            (Lease::Returned(by), Some(Returned)) => right(by == key),
            (Lease::Returned(by), Some(AlreadyEnded)) => right(by != key),
            (Lease::Expired, Some(AlreadyEnded)) | (Lease::Unborn, Some(NoSuchLease)) => {
                right(true)
            }
            _ => None,
        }
    }

    fn borrow(
        &mut self,
        asked: Asked,
        lease: LeaseNo,
        key: KeyNo,
        answer: Option<BorrowAnswer>,
    ) -> Option<Undo> {
        self.change_borrow(asked, lease, key, answer, true)
    }

    fn return_borrow(
        &mut self,
        asked: Asked,
        lease: LeaseNo,
        key: KeyNo,
        answer: Option<BorrowAnswer>,
    ) -> Option<Undo> {
        self.change_borrow(asked, lease, key, answer, false)
    }

    fn change_borrow(
        &mut self,
        asked: Asked,
        lease: LeaseNo,
        key: KeyNo,
        answer: Option<BorrowAnswer>,
        to: bool,
    ) -> Option<Undo> {
        use BorrowAnswer::{Done, Ended, NoSuchLease, NotBorrowed};
        let live = match (self.leases[lease], answer) {
            (Lease::Live(live), _) => live,
            (Lease::Unborn, Some(NoSuchLease)) => return right(true),
            (Lease::Returned(_) | Lease::Expired, Some(Ended)) => return right(true),
            _ => return None,
        };
        match answer {
            // Nothing is done: whether it was borrowed until now is not asked again.
            Some(NotBorrowed) => right(!to && !matches!(live.borrowed, Borrowed::Yes { .. })),
            // Asked again under its key: the answer again, and nothing else.
            Some(Done) if self.keys[key] => {
                let is_so = live.borrowed != Borrowed::No;
                right(is_so == to || live.borrowed == Borrowed::Perhaps)
            }
            None | Some(Done) if !self.keys[key] && (to || live.borrowed != Borrowed::No) => {
                let live = Live { keys: live.keys ^ scramble(9, key as u128), ..live };
                self.keys[key] = true;
                let undo = self.extend(asked, lease, live, changed(asked, live, to));
                Some(Undo { borrow_key: Some(key), ..undo })
            }
            _ => None,
        }
    }

    fn transfer(
        &mut self,
        (from, to): (PoolNo, PoolNo),
        seats: u32,
        key: KeyNo,
        answer: Option<bool>,
    ) -> Option<Undo> {
        if self.keys[key] {
            return right(answer == Some(true));
        }
        let (giving, taking) = (self.pools[from], self.pools[to]);
        let has_room = giving.share.saturating_sub(giving.in_use) >= seats;
        match answer {
            Some(false) => right(!has_room),
            None | Some(true) if has_room && from != to => {
                self.set_pool(from, Pool { share: giving.share - seats, ..giving });
                self.set_pool(to, Pool { share: taking.share + seats, ..taking });
                self.flip_key(key);
                let pools = [Some((from, giving)), Some((to, taking))];
                Some(Undo { pools, key: Some(key), ..Undo::default() })
            }
            _ => None,
        }
    }

    /// An extension moves no end towards the present, but for the return of a borrow.
    fn extend(&mut self, asked: Asked, lease: LeaseNo, live: Live, borrowed: Borrowed) -> Undo {
        let ends_borrow = live.borrowed != Borrowed::No && borrowed == Borrowed::No;
        let until_ns = if ends_borrow { asked.until_ns } else { live.until_ns.max(asked.until_ns) };
        let live = Live {
            sequence: live.sequence + u32::from(self.terms.rotation || ends_borrow),
            extended_ns: asked.invoke_ns,
            until_ns,
            borrowed,
            ..live
        };
        let before = self.set_lease(lease, Lease::Live(live));
        Undo { lease: Some((lease, before)), ..Undo::default() }
    }

    fn end(&mut self, lease: LeaseNo, live: Live, to: Lease) -> Undo {
        let before = self.pools[live.pool];
        self.set_pool(live.pool, Pool { in_use: before.in_use - live.seats, ..before });
        let pools = [Some((live.pool, before)), None];
        Undo { lease: Some((lease, self.set_lease(lease, to))), pools, ..Undo::default() }
    }

    fn live_leases(&self) -> impl Iterator<Item = Live> + '_ {
        self.live.iter().filter_map(|lease| match self.leases[*lease] {
            Lease::Live(live) => Some(live),
            _ => None,
        })
    }

    fn set_lease(&mut self, lease: LeaseNo, to: Lease) -> Lease {
        let before = std::mem::replace(&mut self.leases[lease], to);
        self.digest ^= self.lease_digest(lease, before) ^ self.lease_digest(lease, to);
        if matches!(to, Lease::Live(_)) {
            self.live.insert(lease);
        } else {
            self.live.remove(&lease);
        }
        before
    }

    fn lease_digest(&self, lease: LeaseNo, state: Lease) -> u128 {
        let (one, two) = match state {
            Lease::Unborn => return 0,
            Lease::Live(live) => {
                let borrowed = match live.borrowed {
                    Borrowed::No => 0,
                    Borrowed::Yes { ends_ns } => scramble(7, u128::from(ends_ns)),
                    Borrowed::Perhaps => scramble(8, 0),
                };
                let class = u128::from(live.class == Class::Overage);
                let times = u128::from(live.extended_ns) << 64 | u128::from(live.until_ns);
                (times ^ live.keys ^ borrowed, u128::from(live.sequence) << 2 | class)
            }
            Lease::Returned(_) | Lease::Expired if self.alike.contains(&lease) => (0, 1 << 42),
            Lease::Returned(key) => (key as u128, 1 << 40),
            Lease::Expired => (0, 1 << 41),
        };
        scramble(4, scramble(5, one) ^ scramble(6, two << 64 | (lease as u128)))
    }

    fn set_pool(&mut self, pool: PoolNo, to: Pool) {
        let before = std::mem::replace(&mut self.pools[pool], to);
        self.digest ^= pool_digest(pool, before) ^ pool_digest(pool, to);
    }

    fn flip_key(&mut self, key: KeyNo) {
        self.keys[key] = !self.keys[key];
        self.digest ^= scramble(2, key as u128);
    }
}

/// What a renewal makes of a borrow.
fn renewed(asked: Asked, live: Live) -> Borrowed {
    match live.borrowed {
        Borrowed::Yes { ends_ns } if asked.term_ns >= ends_ns => Borrowed::Perhaps,
        borrowed => borrowed,
    }
}

/// What a borrow, or the return of one, makes of it.
fn changed(asked: Asked, live: Live, to: bool) -> Borrowed {
    match live.borrowed {
        _ if !to => Borrowed::No,
        Borrowed::Yes { ends_ns } => Borrowed::Yes { ends_ns: ends_ns.max(asked.term_ns) },
        Borrowed::No | Borrowed::Perhaps => Borrowed::Yes { ends_ns: asked.term_ns },
    }
}

fn right(is_right: bool) -> Option<Undo> {
    is_right.then(Undo::default)
}

fn pool_digest(pool: PoolNo, state: Pool) -> u128 {
    let Pool { share, in_use } = state;
    scramble(1, (pool as u128) << 64 | u128::from(share) << 32 | u128::from(in_use))
}

/// A well mixed number out of two: rounds of a 128-bit multiplication and a fold.
pub(crate) fn scramble(kind: u128, value: u128) -> u128 {
    const ODD: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;
    let mut mixed = value.wrapping_add(kind.wrapping_mul(ODD)).wrapping_add(ODD);
    for _ in 0..3 {
        mixed = mixed.wrapping_mul(ODD);
        mixed ^= mixed >> 67;
    }
    mixed.wrapping_mul(ODD)
}
