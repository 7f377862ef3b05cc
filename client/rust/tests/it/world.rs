//! A machine whose clocks stand still until the test moves them, and randomness from a seed.

use std::sync::Arc;
use std::time::Duration;

use leasehold_client::{Environment, Sleep};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// The machine.
pub(crate) struct World {
    state: Mutex<State>,
    /// Somebody began to sleep.
    slept: Notify,
}

struct State {
    now_ns: u64,
    wall_offset_ms: i64,
    random: u64,
    sleepers: Vec<Sleeper>,
}

struct Sleeper {
    wake_ns: u64,
    /// A limit on an answer that is awaited: ends by hand only.
    is_limit: bool,
    wake: oneshot::Sender<()>,
}

impl World {
    /// A machine.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            now_ns: 1_000_000_000_000,
            wall_offset_ms: WALL_START_MS,
            random: seed | 1,
            sleepers: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), slept: Notify::new() })
    }

    /// Milliseconds of the monotonic clock since the world began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.state.lock().now_ns / 1_000_000 - 1_000_000
    }

    /// Time since the world began.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.state.lock().now_ns - 1_000_000_000_000)
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, duration: Duration) {
        let to = self.state.lock().now_ns + u64::try_from(duration.as_nanos()).unwrap();
        self.advance_to(to);
    }

    /// Sets the wall clock, and nothing else.
    pub(crate) fn set_wall_back(&self, by: Duration) {
        self.state.lock().wall_offset_ms -= i64::try_from(by.as_millis()).unwrap();
    }

    /// Waits until somebody sleeps who does not wait for an answer, and lets time pass until he
    /// wakes. Gives how long that was.
    pub(crate) async fn until_awake(&self) -> Duration {
        loop {
            let slept = self.slept.notified();
            let (now_ns, next) = {
                let mut state = self.state.lock();
                state.sleepers.retain(|sleeper| !sleeper.wake.is_closed());
                let sleeping = state.sleepers.iter().filter(|sleeper| !sleeper.is_limit);
                (state.now_ns, sleeping.map(|sleeper| sleeper.wake_ns).min())
            };
            if let Some(wake_ns) = next {
                self.advance_to(wake_ns);
                return Duration::from_nanos(wake_ns.saturating_sub(now_ns));
            }
            slept.await;
        }
    }

    fn advance_to(&self, now_ns: u64) {
        let awake: Vec<Sleeper> = {
            let mut state = self.state.lock();
            state.now_ns = state.now_ns.max(now_ns);
            let (now_ns, mut awake) = (state.now_ns, Vec::new());
            let mut asleep = Vec::new();
            for sleeper in state.sleepers.drain(..) {
                if sleeper.wake_ns <= now_ns { awake.push(sleeper) } else { asleep.push(sleeper) }
            }
            state.sleepers = asleep;
            awake
        };
        for sleeper in awake {
            let _ = sleeper.wake.send(());
        }
    }

    fn sleeper(&self, duration: Duration, is_limit: bool) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.state.lock();
        let wake_ns = state.now_ns + u64::try_from(duration.as_nanos()).unwrap();
        if duration.is_zero() {
            let _ = wake.send(());
        } else {
            state.sleepers.push(Sleeper { wake_ns, is_limit, wake });
            self.slept.notify_waiters();
            self.slept.notify_one();
        }
        woken
    }
}

/// The client's view of a [`World`].
pub(crate) struct View(pub(crate) Arc<World>);

impl View {
    fn wait(&self, duration: Duration, is_limit: bool) -> Sleep {
        let world = Arc::clone(&self.0);
        // Registered when first waited for, as timers are.
        Box::pin(async move {
            let woken = world.sleeper(duration, is_limit);
            let _ = woken.await;
        })
    }
}

impl Environment for View {
    fn monotonic_ns(&self) -> u64 {
        self.0.state.lock().now_ns
    }

    fn wall_ms(&self) -> i64 {
        let state = self.0.state.lock();
        state.wall_offset_ms + i64::try_from(state.now_ns / 1_000_000).unwrap()
    }

    fn random(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        let mut state = self.0.state.lock();
        for byte in buffer {
            // xorshift64
            state.random ^= state.random << 13;
            state.random ^= state.random >> 7;
            state.random ^= state.random << 17;
            *byte = state.random.to_le_bytes()[3];
        }
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.wait(duration, false)
    }

    fn limit(&self, duration: Duration) -> Sleep {
        self.wait(duration, true)
    }
}

/// The wall clock when a world begins, less its monotonic clock: in November 2026.
const WALL_START_MS: i64 = 1_795_000_000_000;
