//! The bytes of one connection, each direction under the condition of its link.
//!
//! A direction is a reader and a writer with a bounded queue between them, so that a delay shifts
//! bytes in time and does not thin them out. Order is kept: TCP knows no other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Condition, Link};
use crate::rng::Rng;

/// The links of a connection.
pub(super) struct Links {
    /// From who dialled.
    pub(super) there: Arc<Link>,
    /// To who dialled.
    pub(super) back: Arc<Link>,
}

/// What waits, and when it may go on.
type Piece = (Instant, Said);

/// What one end has said. How it ended is passed on as late as its bytes are: who is cut off does
/// not learn of a death either.
enum Said {
    Bytes(Bytes),
    End,
    Broken,
}

/// Why a direction ended.
enum Ended {
    /// All was said.
    Quietly,
    /// The whole connection is to end at once.
    Reset,
}

/// Passes bytes both ways until both have ended, or one was reset.
pub(super) async fn run(inner: TcpStream, outer: TcpStream, links: Links, seed: u64, name: &str) {
    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
    // A connection that ends otherwise than quietly ends with a reset on both sides.
    let (inner_read, inner_write) = inner.into_split();
    let (outer_read, outer_write) = outer.into_split();
    let (mut there_rng, mut back_rng) =
        (Rng::named(seed, &format!("{name} there")), Rng::named(seed, &format!("{name} back")));
    let mut there = Direction { from: inner_read, to: outer_write, link: links.there };
    let mut back = Direction { from: outer_read, to: inner_write, link: links.back };
    let ended = {
        let (there, back) = (there.pass(&mut there_rng), back.pass(&mut back_rng));
        tokio::pin!(there, back);
        tokio::select! {
            ended = &mut there => match ended {
                Ended::Quietly => back.await,
                Ended::Reset => Ended::Reset,
            },
            ended = &mut back => match ended {
                Ended::Quietly => there.await,
                Ended::Reset => Ended::Reset,
            },
        }
    };
    if matches!(ended, Ended::Reset) {
        let streams = (there.from.reunite(back.to), back.from.reunite(there.to));
        if let (Ok(inner), Ok(outer)) = streams {
            let _ = (inner.set_zero_linger(), outer.set_zero_linger());
        }
    }
}

struct Direction {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    link: Arc<Link>,
}

impl Direction {
    async fn pass(&mut self, rng: &mut Rng) -> Ended {
        let (sender, receiver) = mpsc::channel::<Piece>(PIECES_ON_THE_WAY);
        let Self { from, to, link } = self;
        let reading = read(from, link, rng, sender);
        let writing = write(to, link, receiver);
        match tokio::try_join!(reading, writing) {
            Ok(_) => Ended::Quietly,
            Err(_) => Ended::Reset,
        }
    }
}

/// Reads pieces and says when each may go on; an error ends the connection.
async fn read(
    from: &mut OwnedReadHalf,
    link: &Link,
    rng: &mut Rng,
    sender: mpsc::Sender<Piece>,
) -> io::Result<()> {
    let mut due = now();
    loop {
        let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            // The writer has failed: nobody waits for more.
            () = sender.closed() => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let said = match read {
            Ok(0) => Said::End,
            Ok(_) => Said::Bytes(buffer.freeze()),
            Err(_) => Said::Broken,
        };
        let condition = *link.condition.borrow();
        let is_more = matches!(said, Said::Bytes(_));
        if is_more && rng.below(1_000) < condition.reset_per_mille {
            link.effects.count_reset();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        due = due.max(now() + wait_of(condition, link, rng));
        if sender.send((due, said)).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !is_more {
            return Ok(());
        }
    }
}

/// How long a piece is on its way.
fn wait_of(condition: Condition, link: &Link, rng: &mut Rng) -> Duration {
    let jitter_us = u64::try_from(condition.jitter.as_micros()).unwrap_or(0);
    let mut wait = condition.delay + Duration::from_micros(rng.below(jitter_us + 1));
    if !wait.is_zero() {
        link.effects.count_delayed();
    }
    if rng.below(1_000) < condition.stall_per_mille {
        link.effects.count_stalled();
        wait += condition.stall;
    }
    wait
}

async fn write(
    to: &mut OwnedWriteHalf,
    link: &Link,
    mut receiver: mpsc::Receiver<Piece>,
) -> io::Result<()> {
    let mut condition = link.condition.subscribe();
    while let Some((due, said)) = receiver.recv().await {
        sleep_until(due).await;
        until_not_cut(link, &mut condition).await;
        match said {
            Said::Bytes(piece) => drip(to, link, &mut condition, &piece).await?,
            Said::End => return to.shutdown().await,
            Said::Broken => break,
        }
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

async fn until_not_cut(link: &Link, condition: &mut watch::Receiver<Condition>) {
    if condition.borrow_and_update().cut {
        link.effects.count_held_back();
        // The sender lives in the link, which outlives this.
        let _ = condition.wait_for(|condition| !condition.cut).await;
    }
}

/// Writes a piece, a few bytes at a time where the link lets no more through.
async fn drip(
    to: &mut OwnedWriteHalf,
    link: &Link,
    condition: &mut watch::Receiver<Condition>,
    piece: &[u8],
) -> io::Result<()> {
    let mut rest = piece;
    while !rest.is_empty() {
        let rate = condition.borrow_and_update().bytes_per_second;
        if rate == 0 {
            to.write_all(rest).await?;
            link.effects.count_passed(rest.len());
            return Ok(());
        }
        link.effects.count_dripped();
        let most = usize::try_from(rate / DROPS_PER_SECOND).unwrap_or(1).max(1);
        let (drop, after) = rest.split_at(most.min(rest.len()));
        to.write_all(drop).await?;
        link.effects.count_passed(drop.len());
        rest = after;
        tokio::select! {
            () = sleep(Duration::from_secs(1) / u32::try_from(DROPS_PER_SECOND).unwrap_or(1)) => {}
            // Healed, or something worse: look again.
            _ = condition.changed() => until_not_cut(link, condition).await,
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "when a piece may go on; nothing is judged by it")]
fn now() -> Instant {
    Instant::now()
}

/// Pieces between reader and writer: enough for two seconds of a busy link.
const PIECES_ON_THE_WAY: usize = 256;
const PIECE_BYTES: usize = 16 << 10;
const DROPS_PER_SECOND: u64 = 10;
/// Pause when a connection could not be accepted.
pub(super) const AFTER_A_FAILED_ACCEPT: Duration = Duration::from_millis(50);
