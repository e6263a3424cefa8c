//! A database's URL: what it says, and what of it may be shown.

use std::env;
use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::{Tls, Verify};
use crate::StoreError;

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How long a connection may be silent before it is asked for a sign of life, and how often, how many times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEPALIVE_TRIES: u32 = 3;

/// How long what was sent may stay without an acknowledgement by the other machine.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// The port on which Supabase's pooler lends a connection for one transaction only.
const POOLER_PORT: u16 = 6543;

/// How many connections a store has at most for what it is asked. More make smaller groups, and the server
/// no faster.
const CONNECTIONS: usize = 4;

/// The most that may be said in a URL.
const CONNECTIONS_LIMIT: usize = 64;

/// Where a database is, and how to get in.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// Whether a connection is ours for one transaction only.
    pub(super) is_pooled: bool,
    pub(super) connections: usize,
    /// The URL without what is secret.
    pub(super) shown: String,
}

impl Address {
    /// Reads a URL: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`, as libpq does. Beside what libpq knows,
    /// `pgbouncer=true` says that there is a pooler in transaction mode before the database, and
    /// `connection_limit` how many connections there may be; other programs know these too.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        // What cannot be read may have its password anywhere.
        let bad = |problem: String| StoreError::BadUrl { url: "postgres://…".to_owned(), problem: problem.into() };
        let mut known = Known::default();
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| bad(format!("the value of {key} is not UTF-8")))?;
            if !known.take(key, &value).map_err(bad)? {
                rest.push(pair);
            }
        }
        let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config = plain.parse().map_err(|error| bad(reason(&error)))?;
        known.complete(&mut config)
    }
}

impl Address {
    /// Whether all that is sent stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        })
    }
}

/// What a URL says that the driver does not know, or knows less of.
#[derive(Debug, Default)]
struct Known {
    ssl_mode: Option<String>,
    root: Option<String>,
    is_pooled: Option<bool>,
    connections: Option<usize>,
}

impl Known {
    /// Takes a parameter; false if it is the driver's.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "sslmode" => self.ssl_mode = Some(value.to_owned()),
            "sslrootcert" => self.root = Some(value.to_owned()),
            "pgbouncer" => match value {
                "true" | "1" => self.is_pooled = Some(true),
                "false" | "0" => self.is_pooled = Some(false),
                _ => return Err("pgbouncer is neither true nor false".to_owned()),
            },
            "connection_limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=CONNECTIONS_LIMIT).contains(limit));
                let limit = limit.ok_or_else(|| format!("connection_limit is not from 1 to {CONNECTIONS_LIMIT}"))?;
                self.connections = Some(limit);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn complete(self, config: &mut Config) -> Result<Address, StoreError> {
        let shown = shown(config);
        let bad = |problem: String| StoreError::BadUrl { url: shown.clone(), problem: problem.into() };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(bad("it names no host".to_owned()));
        }
        if config.get_password().is_none()
            && let Ok(password) = env::var("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("buildlock");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WITHIN);
        }
        config.keepalives_idle(KEEPALIVE_AFTER).keepalives_interval(KEEPALIVE_EVERY);
        config.keepalives_retries(KEEPALIVE_TRIES).tcp_user_timeout(ACKNOWLEDGED_WITHIN);
        // Of several servers the one that writes is the one to use.
        if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        // As in libpq, a socket of this machine needs no TLS whatever is said.
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let mode = self.ssl_mode.as_deref().filter(|_| !is_local || config.get_hosts().is_empty());
        let mode = if mode.is_none() && is_local && !config.get_hosts().is_empty() { Some("disable") } else { mode };
        let verify = match mode.unwrap_or("prefer") {
            "disable" => {
                config.ssl_mode(SslMode::Disable);
                Verify::Nothing
            }
            "prefer" | "allow" => {
                config.ssl_mode(SslMode::Prefer);
                Verify::Nothing
            }
            // Also as in libpq: who names a root wants it looked at.
            "require" if self.root.is_none() => {
                config.ssl_mode(SslMode::Require);
                Verify::Nothing
            }
            "require" | "verify-ca" => {
                config.ssl_mode(SslMode::Require);
                Verify::Authority
            }
            "verify-full" => {
                config.ssl_mode(SslMode::Require);
                Verify::Host
            }
            other => {
                return Err(bad(format!(
                    "sslmode is {other:?}; use disable, prefer, require, verify-ca or verify-full"
                )));
            }
        };
        let tls = Tls::new(verify, self.root.as_deref()).map_err(bad)?;
        let is_pooled = self.is_pooled.unwrap_or_else(|| config.get_ports().contains(&POOLER_PORT));
        let connections = self.connections.unwrap_or(CONNECTIONS);
        Ok(Address { config: config.clone(), tls, is_pooled, connections, shown })
    }
}

fn shown(config: &Config) -> String {
    let mut shown = "postgres://".to_owned();
    if let Some(user) = config.get_user() {
        shown.push_str(user);
        shown.push('@');
    }
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let host = match host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]"),
            Host::Tcp(host) => host.clone(),
            Host::Unix(path) => path.display().to_string().replace('/', "%2F"),
        };
        match ports.get(index).or(ports.first()) {
            Some(port) if *port != 5432 => format!("{host}:{port}"),
            _ => host,
        }
    });
    shown.push_str(&hosts.collect::<Vec<_>>().join(","));
    if let Some(database) = config.get_dbname() {
        shown.push('/');
        shown.push_str(database);
    }
    shown
}

/// The driver's own words, down to the cause.
fn reason(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A value of a query with its escapes undone.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let escaped = (first == b'%').then(|| more.split_at_checked(2)).flatten();
        let escaped = escaped.and_then(|(hex, more)| {
            let hex = std::str::from_utf8(hex).ok()?;
            Some((u8::from_str_radix(hex, 16).ok()?, more))
        });
        let (byte, more) = escaped.unwrap_or((first, more));
        bytes.push(byte);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_database_is_and_no_secret_is_shown() {
        for (url, shown) in [
            ("postgres://ana:secret@db.example:6000/sites", "postgres://ana@db.example:6000/sites"),
            ("postgresql://ana:secret@[::1]/sites?sslmode=require", "postgres://ana@[::1]/sites"),
            ("postgres://ana@%2Ftmp%2Fpg/sites?password=secret", "postgres://ana@%2Ftmp%2Fpg/sites"),
            ("postgres://ana:secret@one:5432,two:5433/sites", "postgres://ana@one,two:5433/sites"),
            ("postgres:///sites?host=/tmp/pg&user=ana", "postgres://ana@%2Ftmp%2Fpg/sites"),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.shown, shown);
            assert!(!format!("{address:?}").contains("secret"), "{address:?}");
        }
    }

    #[test]
    fn a_pooler_is_told_from_its_port_or_said() {
        for (url, is_pooled) in [
            ("postgres://ana@db.example/sites", false),
            ("postgres://ana@db.example:6543/sites", true),
            ("postgres://ana@db.example:6543/sites?pgbouncer=false", false),
            ("postgres://ana@db.example/sites?pgbouncer=true&connection_limit=1", true),
        ] {
            assert_eq!(Address::parse(url).unwrap().is_pooled, is_pooled, "{url}");
        }
    }

    #[test]
    fn a_url_that_says_nonsense_is_refused_without_its_password() {
        for (url, problem) in [
            ("postgres://ana:secret@db.example/sites?sslmode=sure", "sslmode is \"sure\""),
            ("postgres://ana:secret@db.example/sites?colour=red", "colour"),
            ("postgres://ana:secret@db.example:door/sites", "port"),
            ("postgres://ana:secret@db.example/sites?connection_limit=0", "connection_limit"),
            ("postgres://ana:secret@db.example/sites?sslmode=verify-full&sslrootcert=/nowhere", "/nowhere"),
            ("postgres:///sites", "host"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
