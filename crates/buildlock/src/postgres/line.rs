//! One connection to the database, made when it is needed and made again when it is lost.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row};

use super::address::Address;
use super::statement::{Parameters, Statement, VERSION_OF};
use super::trouble::{Trouble, unavailable};
use crate::StoreError;

/// How long a server may take until it has let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);

/// A connection.
pub(super) struct Line {
    address: Arc<Address>,
    client: Client,
    /// What was prepared on it. A pooler would give the next transaction another connection, which knows nothing
    /// of them.
    prepared: HashMap<&'static str, tokio_postgres::Statement>,
    driver: AbortHandle,
}

impl Line {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`StoreError`] that may pass if the database cannot be reached now; another one if it does not let us in.
    pub(super) async fn connect(address: &Arc<Address>) -> Result<Self, StoreError> {
        let (line, mut messages) = Self::connect_listening(address).await?;
        // Nobody listens on this connection.
        messages.close();
        Ok(line)
    }

    /// Connects, for somebody who hears what the server says unasked.
    pub(super) async fn connect_listening(
        address: &Arc<Address>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<AsyncMessage>), StoreError> {
        let failed = |error: &tokio_postgres::Error| match Trouble::of(&address.shown, error).error() {
            // What the driver finds wrong before the server says a word, such as that there is no TLS.
            StoreError::Protocol(problem) => StoreError::NotAllowed { url: address.shown.clone(), problem },
            error => error,
        };
        // The driver bounds each attempt to reach a host, but not the conversation that follows.
        let connecting = timeout(CONNECT_WITHIN, address.config.connect(address.tls.connector())).await;
        let Ok(connected) = connecting else {
            let problem = format!("no connection within {} s", CONNECT_WITHIN.as_secs());
            return Err(unavailable(&address.shown, problem));
        };
        let (client, mut connection) = connected.map_err(|error| failed(&error))?;
        let (sender, messages) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    // It fails when nobody listens.
                    Ok(message) => drop(sender.send(message)),
                    // Whoever waits for an answer is told by the client.
                    Err(error) => return tracing::debug!(%error, "a connection to the database has ended"),
                }
            }
        });
        let line =
            Self { address: Arc::clone(address), client, prepared: HashMap::new(), driver: driver.abort_handle() };
        Ok((line, messages))
    }

    /// The driver's own, for what no store does.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement that is the connection's own business, such as to listen.
    pub(super) async fn run(&self, sql: &str) -> Result<(), StoreError> {
        let ran = timeout(CONNECT_WITHIN, self.client.batch_execute(sql)).await;
        let ran = ran.map_err(|_| unavailable(&self.address.shown, "no answer".to_owned()))?;
        ran.map_err(|error| Trouble::of(&self.address.shown, &error).error())
    }

    /// The version of buildlock's tables in the database.
    pub(super) async fn version(&mut self) -> Result<u32, StoreError> {
        let rows = self.query(&VERSION_OF, &Vec::new()).await.map_err(Trouble::error)?;
        let version = rows.first().map(|row| row.try_get::<_, i32>(0)).transpose();
        let version = version.map_err(|error| StoreError::Protocol(error.to_string()))?;
        Ok(version.unwrap_or_default().unsigned_abs())
    }

    /// Sends a statement and waits for its answer.
    pub(super) async fn query(
        &mut self,
        statement: &'static Statement,
        parameters: &Parameters,
    ) -> Result<Vec<Row>, Trouble> {
        let patience = statement.patience;
        let answered = timeout(patience, self.send(statement, parameters)).await;
        match answered {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(Trouble::of(&self.address.shown, &error)),
            Err(_) => {
                let problem = format!("no answer within {} s", patience.as_secs());
                Err(Trouble::Lost(unavailable(&self.address.shown, problem)))
            }
        }
    }

    async fn send(
        &mut self,
        statement: &'static Statement,
        parameters: &Parameters,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let values = parameters.iter().map(|value| &**value as &(dyn ToSql + Sync));
        if self.address.is_pooled {
            let typed: Vec<_> = values.zip(statement.types.iter().cloned()).collect();
            return self.client.query_typed(statement.sql, &typed).await;
        }
        let prepared = match self.prepared.get(statement.sql) {
            Some(prepared) => prepared.clone(),
            None => {
                let prepared = self.client.prepare_typed(statement.sql, statement.types).await?;
                self.prepared.insert(statement.sql, prepared.clone());
                prepared
            }
        };
        let values: Vec<_> = values.collect();
        self.client.query(&prepared, &values).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A statement that takes too long would keep the connection open.
        self.driver.abort();
    }
}
