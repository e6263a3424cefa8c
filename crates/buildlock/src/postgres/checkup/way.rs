//! The way to the server: whether there is a pooler on it, and whether the server's word comes through.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};

use super::{Found, Probe, Problem, one_row};
use crate::postgres::address::Address;
use crate::store::Finding;

/// How long a notification may take.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// A channel that nobody else listens to.
const CHANNEL: &str = "buildlock_doctor";

pub(super) async fn look(address: &Address) -> Found {
    let what = "pooler";
    let (Ok(mut one), Ok(other)) = (Probe::connect(address).await, Probe::connect(address).await) else {
        let advice = "raise max_connections, or see how many the pooler allows";
        return Ok(vec![Finding::warning(what, "there is no second connection to be had", advice)]);
    };
    let is_lent = is_lent(&one.client, &other.client).await?;
    let finding = match (is_lent, address.is_pooled) {
        (true, false) => Finding::bad(
            what,
            "there is one in transaction mode before the server, and the URL does not say so: statements that were \
             prepared will be missing",
            "add pgbouncer=true to the URL, or name the server itself",
        ),
        (true, true) => Finding::good(
            what,
            "one in transaction mode: who waits for a lock is asked for every half second; the server's own address \
             would tell at once",
        ),
        (false, true) => Finding::warning(
            what,
            "none was met, and the URL says that there is one: statements are not prepared, and nothing is listened to",
            "if it is the server's own address, take the port 6543 or pgbouncer=true out of the URL",
        ),
        (false, false) if hears(&mut one, &other.client).await? => {
            Finding::good(what, "none: statements are prepared, and news are heard at once (LISTEN)")
        }
        (false, false) => Finding::warning(
            what,
            "a notification was not heard: who waits for a lock is asked for every now and then",
            "see what is between: a pooler that lets nobody listen is said with pgbouncer=true in the URL",
        ),
    };
    Ok(vec![finding])
}

/// Whether connections are lent for one transaction each: then two that are open have the same one behind them,
/// or one of them another than before.
async fn is_lent(one: &Client, other: &Client) -> Result<bool, Problem> {
    let first = backend(one).await?;
    other.batch_execute("begin").await?;
    let second = backend(other).await?;
    let again = backend(one).await?;
    other.batch_execute("rollback").await?;
    Ok(first == second || first != again)
}

/// The process that is behind a connection.
async fn backend(client: &Client) -> Result<i32, Problem> {
    Ok(one_row(client, "select pg_backend_pid()").await?.try_get(0)?)
}

async fn hears(listener: &mut Probe, other: &Client) -> Result<bool, Problem> {
    listener.client.batch_execute(&format!("listen {CHANNEL}")).await?;
    other.batch_execute(&format!("notify {CHANNEL}")).await?;
    let heard = async {
        while let Some(message) = listener.messages.recv().await {
            if matches!(&message, AsyncMessage::Notification(told) if told.channel() == CHANNEL) {
                return true;
            }
        }
        false
    };
    Ok(timeout(HEARD_WITHIN, heard).await.unwrap_or(false))
}
