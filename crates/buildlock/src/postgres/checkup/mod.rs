//! What `buildlock doctor` finds out about a database. It has connections of its own, and looks as far as it gets:
//! also at a database that nobody has migrated, or that lets nobody write. It changes nothing.

mod locks;
mod schema;
mod server;
mod way;

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Row};

use super::PostgresStore;
use super::address::Address;
use super::trouble::said;
use crate::StoreError;
use crate::store::{Finding, Verdict};

/// How long one look may take: a large adopted table is read whole.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Looks over the database with this URL, `postgres://…`, for an operator: the way to it, how it is set, what of
/// buildlock is in it, and whether that is as it should be. What cannot be found out is a finding too.
///
/// # Errors
///
/// [`StoreError::BadUrl`] if the URL is none.
pub async fn checkup(url: &str) -> Result<Vec<Finding>, StoreError> {
    Ok(look_over(&Address::parse(url)?).await)
}

impl PostgresStore {
    pub(super) async fn look_over(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(look_over(&self.shared().address).await)
    }
}

/// A store's URL as it may be shown: a database's without its password, and without its options.
pub fn shown_url(url: &str) -> String {
    let is_database = url.starts_with("postgres:") || url.starts_with("postgresql:");
    if !is_database {
        return url.to_owned();
    }
    // What cannot be read may have its password anywhere.
    Address::parse(url).map_or_else(|_| "postgres://…".to_owned(), |address| address.shown)
}

/// What was found.
type Found = Result<Vec<Finding>, Problem>;

/// Why it could not be found.
struct Problem(String);

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(said(&error))
    }
}

async fn look_over(address: &Address) -> Vec<Finding> {
    let probe = match Probe::connect(address).await {
        Ok(probe) => probe,
        Err(problem) => {
            let advice = "see whether the server runs, and whether host, port, user, password and sslmode are right";
            return vec![Finding::bad("connection", format!("{}: {problem}", address.shown), advice)];
        }
    };
    let client = &probe.client;
    let mut findings = look("server", server::look(client, address)).await;
    if findings.iter().any(|finding| finding.what == server::STANDBY) {
        // It can do hardly anything of what is looked at below.
        return findings;
    }
    findings.extend(look("pooler", way::look(address)).await);
    findings.extend(look("standbys", server::look_at_standbys(client)).await);
    findings.extend(look("transactions", locks::look_at_transactions(client)).await);
    let tables = look("tables", schema::look(client)).await;
    let are_usable = tables.iter().all(|finding| finding.verdict == Verdict::Good);
    findings.extend(tables);
    if are_usable {
        findings.extend(look("functions", schema::look_at_functions(client)).await);
        findings.extend(look("rights", schema::look_at_rights(client)).await);
        findings.extend(look("adopted table", schema::look_at_adopted(client)).await);
        findings.extend(look("locks", locks::look(client)).await);
    }
    findings
}

async fn look(what: &'static str, at_it: impl Future<Output = Found>) -> Vec<Finding> {
    match timeout(LOOK_WITHIN, at_it).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(Problem(problem))) => {
            let advice = "if it is a right that is missing: connect as the role that has migrated";
            vec![Finding::bad(what, format!("cannot be looked at: {problem}"), advice)]
        }
        Err(_) => {
            let detail = format!("no answer within {} s", LOOK_WITHIN.as_secs());
            vec![Finding::warning(what, detail, "see what the server is busy with, in pg_stat_activity")]
        }
    }
}

/// A connection of the doctor's own.
struct Probe {
    client: Client,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
    driver: AbortHandle,
}

impl Probe {
    async fn connect(address: &Address) -> Result<Self, String> {
        let connected = timeout(CONNECT_WITHIN, address.config.connect(address.tls.connector())).await;
        let connected = connected.map_err(|_| format!("no connection within {} s", CONNECT_WITHIN.as_secs()))?;
        let (client, mut connection) = connected.map_err(|error| said(&error))?;
        let (sender, messages) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            // Whoever asked is told of its end by the client.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self { client, messages, driver: driver.abort_handle() })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The one row of a statement.
async fn one_row(client: &Client, sql: &str) -> Result<Row, Problem> {
    // Also through a pooler, which would not know what was prepared.
    let rows = client.query_typed(sql, &[]).await?;
    rows.into_iter().next().ok_or_else(|| Problem("there is no answer".to_owned()))
}
