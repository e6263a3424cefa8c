//! Cycles of lock and unlock over HTTP, beside Redis; idle streams of events; the start; memory.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use buildlock::fresh_key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::command::binary;
use crate::cycles::{compare, cycles_row, cycles_table};
use crate::disk::Disk;
use crate::load::Caller;
use crate::redis::Redis;
use crate::table::{Limit, Numbers, Target, count, median, millis};

const CONNECTIONS: [usize; 3] = [1, 64, 256];

const STREAMS: usize = 10_000;

/// How often the server is started for the time of its first answer.
const STARTS: usize = 20;

/// How long the server may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(disk: &Disk, quick: bool) -> Result<Vec<Target>> {
    println!("## Over HTTP\n");
    let Some(program) = binary()? else {
        println!("There is no buildlock beside this benchmark; build it: cargo build --release -p buildlock-cli\n");
        return Ok(Vec::new());
    };
    let mut targets = Vec::new();
    let mut table = cycles_table("connections");
    for connections in CONNECTIONS {
        eprintln!("http: {connections} connections");
        let folder = disk.folder()?;
        let server = Server::start(&program, folder.path(), &file_in(folder.path())).await?;
        let redis = Redis::start(folder.path()).await?;
        let redis_callers = match &redis {
            Some(redis) => Some(redis.callers(connections).await?),
            None => None,
        };
        let (ours, redis) = compare(server.callers(connections).await?, redis_callers, quick).await?;
        if let Some(redis) = redis.as_ref().filter(|_| connections == 64) {
            let reached = ours.per_second / redis.per_second;
            let what = "cycles/s over HTTP at 64 connections, to Redis";
            targets.push(Target { what, limit: Limit::AtLeast(0.6), reached, unit: " times" });
        }
        table.row(cycles_row(connections, &ours, redis.as_ref()));
    }
    table.print();

    let streams = if quick { STREAMS / 10 } else { STREAMS };
    eprintln!("http: the start, {streams} streams");
    let folder = disk.folder()?;
    let store = file_in(folder.path());
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(Server::start(&program, folder.path(), &store).await?.first_answer.as_secs_f64());
    }
    let start = median(starts);
    let server = Server::start(&program, folder.path(), &store).await?;
    let idle = server.memory()?;
    let mut open = Vec::with_capacity(streams);
    for _ in 0..streams {
        open.push(server.follow_events().await?);
    }
    let with_streams = server.memory()?;
    let mut table = Numbers::new(&["", "measured"]);
    table.row(["from start to first answer".to_owned(), millis(Duration::from_secs_f64(start))]);
    table.row(["memory, idle".to_owned(), mebibytes(idle)]);
    table.row([format!("memory, {} idle streams of events", count(streams as f64)), mebibytes(with_streams)]);
    table.print();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    targets.extend([
        Target { what: "first answer", limit: Limit::AtMost(100.0), reached: start * 1e3, unit: " ms" },
        Target { what: "idle memory", limit: Limit::AtMost(30.0), reached: mib(idle), unit: " MiB" },
        Target {
            what: "memory with idle streams",
            limit: Limit::AtMost(300.0),
            reached: mib(with_streams),
            unit: " MiB",
        },
    ]);
    Ok(targets)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The URL of a store in this folder.
fn file_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("locks.db").display())
}

/// A `buildlock serve` of this benchmark's own; it ends with this value.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    key: String,
    first_answer: Duration,
}

impl Server {
    /// Starts a server of this store, which keeps its files in `folder`.
    pub(crate) async fn start(program: &Path, folder: &Path, store: &str) -> Result<Self> {
        // A port that is free now; nobody else takes it in the moment until the server has it.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let key = fresh_key()?;
        let started = Instant::now();
        let process = Command::new(program)
            .args(["serve", "--listen", &address.to_string(), "--store", store])
            .env("BUILDLOCK_OPERATOR_KEY", &key)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("server.log"))?)
            .spawn()
            .context("buildlock cannot be started")?;
        let mut server = Self { process, address, key, first_answer: Duration::ZERO };
        let first = tokio::time::timeout(PATIENCE, async {
            loop {
                match server.connect().await {
                    Ok(mut connection) => break connection.call("GET", "/livez", "").await.map(drop),
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            }
        });
        first.await.with_context(|| fs::read_to_string(folder.join("server.log")).unwrap_or_default())??;
        server.first_answer = started.elapsed();
        Ok(server)
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let headers = format!("Host: {}\r\nAuthorization: Bearer {}\r\n", self.address, self.key);
        Ok(Connection { stream, headers, bytes: Vec::new() })
    }

    /// This many callers, each with its own project and its own connection.
    pub(crate) async fn callers(&self, number: usize) -> Result<Vec<HttpCaller>> {
        let mut callers = Vec::with_capacity(number);
        for number in 0..number {
            let path = format!("/v1/projects/caller-{number}/lock");
            callers.push(HttpCaller { connection: self.connect().await?, path });
        }
        Ok(callers)
    }

    /// A connection on which events would come; none do.
    async fn follow_events(&self) -> Result<Connection> {
        let mut connection = self.connect().await?;
        connection.send("GET", "/v1/events", "").await?;
        connection.head().await?;
        Ok(connection)
    }

    /// How much memory the server has, in bytes.
    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended need not be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct HttpCaller {
    connection: Connection,
    path: String,
}

impl Caller for HttpCaller {
    async fn cycle(&mut self) -> Result<()> {
        let token = token(self.connection.call("POST", &self.path, "{}").await?)?;
        let path = format!("{}?token={token}", self.path);
        self.connection.call("DELETE", &path, "").await.map(drop)
    }
}

/// The token in a lease's JSON.
pub(crate) fn token(lease: &str) -> Result<&str> {
    let token = lease.split_once("\"token\":").and_then(|(_, rest)| rest.split([',', '}']).next());
    token.with_context(|| format!("not locked: {lease}"))
}

/// As much of HTTP/1.1 as is needed here, and as little work: it takes its time from the server's processors.
pub(crate) struct Connection {
    stream: TcpStream,
    headers: String,
    /// The request, then the answer.
    bytes: Vec<u8>,
}

impl Connection {
    /// The body of the answer, which must be a success.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: &str) -> Result<&str> {
        self.send(method, path, body).await?;
        let head = self.head().await?;
        let text = std::str::from_utf8(&self.bytes[..head])?;
        let is_success = text.as_bytes().get(STATUS_AT) == Some(&b'2');
        let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split_once('\r'));
        let end = head + length.map_or(Ok(0), |(length, _)| length.parse())?;
        while self.bytes.len() < end {
            self.read().await?;
        }
        let answer = std::str::from_utf8(&self.bytes[head..end])?;
        ensure!(is_success, "{method} {path}: {answer}");
        Ok(answer)
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        let Self { headers, bytes, .. } = self;
        bytes.clear();
        write!(bytes, "{method} {path} HTTP/1.1\r\n{headers}")?;
        if !body.is_empty() {
            write!(bytes, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())?;
        }
        write!(bytes, "\r\n{body}")?;
        self.stream.write_all(bytes).await?;
        bytes.clear();
        Ok(())
    }

    /// The length of the answer's head.
    async fn head(&mut self) -> Result<usize> {
        loop {
            self.read().await?;
            if let Some(end) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Ok(end + 4);
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.bytes).await? > 0, "the server hung up");
        Ok(())
    }
}

/// Where the status is in "HTTP/1.1 200 OK".
const STATUS_AT: usize = 9;
