//! One client of PostgreSQL: a connection and two prepared statements.

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use crate::load::{Done, Session};

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Takes rows of the large pool.
    Take,
    /// Takes a row of the hot pool and gives it back.
    Cycle,
}

/// A client.
pub(crate) struct PostgresSession {
    address: String,
    job: Job,
    holder: String,
    link: Link,
}

struct Link {
    client: Client,
    _connection: JoinSet<()>,
    take: Statement,
    give_back: Statement,
}

impl PostgresSession {
    /// Connects.
    pub(crate) async fn open(address: String, job: Job, client: usize) -> Result<Self> {
        let link = Link::open(&address, job).await?;
        Ok(Self { address, job, holder: format!("user-{client:05}@bmw.com"), link })
    }

    async fn take(&self) -> Result<i32> {
        let row = self.link.client.query_opt(&self.link.take, &[&self.holder]).await?;
        Ok(row.context("no seat is free")?.try_get(0)?)
    }
}

impl Link {
    async fn open(address: &str, job: Job) -> Result<Self> {
        let (client, connection) = connect(address).await?;
        let table = if job == Job::Cycle { "hot" } else { "large" };
        let take = client
            .prepare(&format!(
                "UPDATE {table} SET holder = $1, until = now() + interval '4 hours'
                 WHERE id = (SELECT id FROM {table} WHERE holder IS NULL
                             LIMIT 1 FOR UPDATE SKIP LOCKED)
                 RETURNING id"
            ))
            .await?;
        let give_back =
            client.prepare(&format!("UPDATE {table} SET holder = NULL WHERE id = $1")).await?;
        Ok(Self { client, _connection: connection, take, give_back })
    }
}

impl Session for PostgresSession {
    async fn operate(&mut self) -> Result<Done> {
        let seat = self.take().await?;
        if self.job == Job::Cycle {
            self.link.client.execute(&self.link.give_back, &[&seat]).await?;
        }
        Ok(Done { operations: 1, audited: 0 })
    }

    /// Rows are freed all at once, by whoever measures.
    async fn give_back(&mut self) -> Result<Done> {
        Ok(Done::default())
    }

    async fn mend(&mut self) -> Result<()> {
        if self.link.client.is_closed() {
            self.link = Link::open(&self.address, self.job).await?;
        }
        Ok(())
    }
}

/// A connection, and the task that drives it.
pub(crate) async fn connect(address: &str) -> Result<(Client, JoinSet<()>)> {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
    let mut driver = JoinSet::new();
    // How it ended is seen by whoever asks next.
    driver.spawn(async move { drop(connection.await) });
    Ok((client, driver))
}
