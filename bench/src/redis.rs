//! Redis under the same load generator: `SET NX PX` to lock, a script that deletes one's own key to
//! unlock, and `appendfsync always`, so that it answers when the write is durable, as buildlock does.
//! Over TCP, as a platform reaches it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;
use uuid::Uuid;

use crate::load::Caller;

/// How long Redis may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes the key if it holds one's own value: <https://redis.io/docs/latest/commands/set/>.
const UNLOCK: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// A redis-server of this benchmark's own; it ends with this value.
pub(crate) struct Redis {
    server: Child,
    address: SocketAddr,
}

impl Redis {
    /// Starts a server that keeps its file in `folder`; none if the machine has no redis-server.
    pub(crate) async fn start(folder: &Path) -> Result<Option<Self>> {
        // A port that is free now; nobody else takes it in the moment until the server has it.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = folder.join("redis.log");
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
            // Nothing but the load: no rewrite of the file in the background.
            .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(Stdio::null())
            .spawn();
        let server = match server {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            server => server.context("redis-server cannot be started")?,
        };
        let redis = Self { server, address };
        let is_up = tokio::time::timeout(PATIENCE, async {
            while redis.connect().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        is_up.await.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Some(redis))
    }

    /// This many callers, each with its own key and its own connection.
    pub(crate) async fn callers(&self, count: usize) -> Result<Vec<RedisCaller>> {
        let mut callers = Vec::with_capacity(count);
        for number in 0..count {
            let mut connection = self.connect().await?;
            let Reply::Text(unlock) = connection.call(&["SCRIPT", "LOAD", UNLOCK]).await? else {
                bail!("Redis did not take the script");
            };
            callers.push(RedisCaller { connection, key: format!("caller-{number}"), unlock });
        }
        Ok(callers)
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection(BufReader::new(stream));
        connection.call(&["PING"]).await?;
        Ok(connection)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to save in either case.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Locks and unlocks one key.
pub(crate) struct RedisCaller {
    connection: Connection,
    key: String,
    unlock: String,
}

impl Caller for RedisCaller {
    async fn cycle(&mut self) -> Result<()> {
        let value = Uuid::now_v7().to_string();
        match self.connection.call(&["SET", &self.key, &value, "NX", "PX", "30000"]).await? {
            Reply::Text(_) => {}
            reply => bail!("not locked: {reply:?}"),
        }
        match self.connection.call(&["EVALSHA", &self.unlock, "1", &self.key, &value]).await? {
            Reply::Number(1) => Ok(()),
            reply => bail!("not unlocked: {reply:?}"),
        }
    }
}

/// As much of Redis's protocol as is needed here: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
struct Connection(BufReader<TcpStream>);

#[derive(Debug)]
enum Reply {
    Text(String),
    Number(i64),
    Nothing,
}

impl Connection {
    async fn call(&mut self, words: &[&str]) -> Result<Reply> {
        let mut message = format!("*{}\r\n", words.len());
        for word in words {
            message += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(message.as_bytes()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let Some((kind, rest)) = line.trim_end().split_at_checked(1) else { bail!("Redis hung up") };
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            ":" => Ok(Reply::Number(rest.parse()?)),
            "$" if rest == "-1" => Ok(Reply::Nothing),
            "$" => {
                let mut text = vec![0; rest.parse::<usize>()? + "\r\n".len()];
                self.0.read_exact(&mut text).await?;
                Ok(Reply::Text(String::from_utf8(text)?.trim_end().to_owned()))
            }
            _ => bail!("Redis says {line:?}"),
        }
    }
}
