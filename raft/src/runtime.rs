//! openraft's runtime: tokio for tasks and timers, our seam for randomness.
//!
//! openraft's trait has no instance, only static functions, so a node's `Entropy` travels as a
//! task-local: [`with_entropy`] sets it for the task that starts openraft, and every task openraft
//! spawns from there inherits it. Time stays tokio's, which a simulation pauses and drives; the
//! clocks that end up in the log are read through `Clock` by `clock`.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use rand_core::TryRng;
use storage::seam::{Entropy, RealEntropy};

type Tokio = openraft::impls::TokioRuntime;

tokio::task_local! {
    static ENTROPY: Arc<dyn Entropy>;
}

/// Runs a future whose tasks draw their randomness from `entropy`.
pub(crate) async fn with_entropy<F: Future>(entropy: Arc<dyn Entropy>, future: F) -> F::Output {
    ENTROPY.scope(entropy, future).await
}

/// Draws from the task's `Entropy`.
pub(crate) struct EntropyRng(Arc<dyn Entropy>);

impl TryRng for EntropyRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

/// The runtime.
#[derive(Debug)]
pub(crate) struct Runtime(Tokio);

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = EntropyRng;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match ENTROPY.try_with(Arc::clone) {
            Ok(entropy) => Tokio::spawn(ENTROPY.scope(entropy, future)),
            Err(_) => Tokio::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Tokio::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        EntropyRng(ENTROPY.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(RealEntropy)))
    }

    fn new(threads: usize) -> Self {
        Self(Tokio::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Tokio::spawn_blocking(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }

    #[tokio::test]
    async fn tasks_inherit_the_entropy_of_the_task_that_spawned_them() {
        let drawn = with_entropy(Arc::new(Counting), async {
            Runtime::spawn(async {
                Runtime::spawn(async { Runtime::thread_rng().next_u64() }).await
            })
            .await
        });
        assert_eq!(drawn.await.unwrap().unwrap(), u64::from_le_bytes([7; 8]));
    }
}
