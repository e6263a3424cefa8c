//! What a browser must not be tricked into. A page of somebody else's may make a browser call this server
//! under a name that leads here (DNS rebinding), or from its own origin (CSRF): both are refused.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config::ServerConfig;
use crate::problem::Problem;

/// What all headers of a request may have together.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Answers may be used by a page of this server's only, and never framed, sniffed or kept. What says
/// otherwise, as the page does, keeps its own.
const SECURE: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Adds what a browser is to know of every answer.
pub(crate) fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURE {
        headers.entry(name).or_insert(value);
    }
}

/// Whether a request is small enough, meant for this server, and of no foreign page's making.
pub(crate) fn checked(names: &Names, request: &Request) -> Result<(), Problem> {
    let size = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if size > MAX_HEADER_BYTES {
        return Err(Problem::headers_too_large(MAX_HEADER_BYTES));
    }
    let headers = request.headers();
    let named = [
        request.uri().authority().map(Authority::as_str),
        headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default()),
    ];
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Problem::wrong_host("two at once"));
    }
    if let Some(host) = named.into_iter().flatten().find(|host| !names.allow_host(host)) {
        return Err(Problem::wrong_host(host));
    }
    if named == [None, None] {
        return Err(Problem::wrong_host(""));
    }
    if !is_safe(request.method()) && names.origin(headers) == Origin::Foreign {
        return Err(Problem::foreign_origin());
    }
    Ok(())
}

pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whose page made a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This server's own, an allowed one, or the user by hand.
    Own,
    /// Somebody else's.
    Foreign,
    /// The request does not say: no browser made it, or one that has nothing to say.
    Unsaid,
}

/// The names by which the server may be called.
#[derive(Debug)]
pub(crate) struct Names {
    address: IpAddr,
    port: u16,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Names {
    /// The names of a server that listens on this address and port.
    pub(crate) fn new(address: IpAddr, port: u16, config: &ServerConfig) -> Self {
        let hosts = config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { address, port, hosts, origins: config.allowed_origins.clone() }
    }

    /// Whether only this machine can reach the server, and under no other name.
    pub(crate) fn are_local(&self) -> bool {
        self.address.is_loopback() && self.hosts.is_empty()
    }

    /// Whether the server may be called by this host name and port.
    ///
    /// An address cannot be made to lead elsewhere, as a name can. So a server that others reach may be called
    /// by any address, and by any port, since what is between may map it.
    fn allow_host(&self, host: &str) -> bool {
        let Some(authority) = host.parse::<Authority>().ok().filter(|_| !host.contains('@')) else { return false };
        let name = authority.host().to_ascii_lowercase();
        if self.hosts.iter().any(|allowed| *allowed == name || allowed.eq_ignore_ascii_case(host)) {
            return true;
        }
        let is_local = self.address.is_loopback();
        if is_local && authority.port_u16().unwrap_or(80) != self.port {
            return false;
        }
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || !is_local,
            Err(_) => name == "localhost",
        }
    }

    /// Whose page made a request with these headers.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> Origin {
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            let is_own = place.is_some_and(|place| !place.is_empty() && place.eq_ignore_ascii_case(host));
            return if is_own || self.origins.iter().any(|allowed| allowed == origin) {
                Origin::Own
            } else {
                Origin::Foreign
            };
        }
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            None => Origin::Unsaid,
            Some(b"same-origin" | b"none") => Origin::Own,
            Some(_) => Origin::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn names(address: &str, hosts: &[&str]) -> Names {
        let mut config = Config::without_file(Path::new("/")).server;
        config.allowed_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Names::new(address.parse().unwrap(), 7878, &config)
    }

    #[test]
    fn a_local_server_is_called_by_this_machines_names_and_its_port() {
        let names = names("127.0.0.1", &[]);
        for good in ["localhost:7878", "LOCALHOST:7878", "127.0.0.1:7878", "127.9.9.9:7878", "[::1]:7878"] {
            assert!(names.allow_host(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:80",
            "evil.example:7878",
            "localhost.evil.example:7878",
            "192.168.1.5:7878",
            "me@localhost:7878",
            "localhost:7878@evil.example",
            "localhost:port",
            "::1:7878",
            "[::1:7878",
            "a b",
        ] {
            assert!(!names.allow_host(bad), "{bad}");
        }
    }

    #[test]
    fn a_server_that_others_reach_is_called_by_addresses_and_by_allowed_names() {
        let names = names("0.0.0.0", &["builds.example.com", "other.example:8443"]);
        for good in [
            "192.168.1.5:80",
            "[fe80::1]",
            "localhost:8080",
            "Builds.Example.Com",
            "builds.example.com:9",
            "other.example:8443",
        ] {
            assert!(names.allow_host(good), "{good}");
        }
        for bad in ["evil.example", "other.example", "builds.example.com.evil.example"] {
            assert!(!names.allow_host(bad), "{bad}");
        }
    }

    #[test]
    fn a_page_is_known_by_the_place_that_it_came_from() {
        let names = names("127.0.0.1", &[]);
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers =
                pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            names.origin(&headers.collect())
        };
        let host = ("host", "localhost:7878");
        assert_eq!(of(&[host]), Origin::Unsaid);
        assert_eq!(of(&[host, ("origin", "http://localhost:7878")]), Origin::Own);
        assert_eq!(of(&[host, ("sec-fetch-site", "same-origin")]), Origin::Own);
        for foreign in ["null", "", "http://", "http://localhost:7879", "http://127.0.0.1:7878", "ftp://localhost:7878"]
        {
            assert_eq!(of(&[host, ("origin", foreign)]), Origin::Foreign, "{foreign}");
        }
        for foreign in ["cross-site", "same-site", ""] {
            assert_eq!(of(&[host, ("sec-fetch-site", foreign)]), Origin::Foreign, "{foreign}");
        }
        assert_eq!(of(&[("origin", "http://")]), Origin::Foreign);
    }
}
