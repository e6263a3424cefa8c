//! The file `buildlock.toml`: what builds each operation, and how the server is set. All of it is
//! checked when it is read; paths in it are relative to its folder.

mod auth;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use buildlock::{BuildRetention, Operation, Ttl};
use reqwest::Url;

pub use self::auth::{AuthConfig, Jwks, JwtConfig, JwtSecret};
use self::reader::{Section, Source};

/// The settings of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`.
    pub server: ServerConfig,
    /// `[auth]`.
    pub auth: AuthConfig,
    /// `[builds]`.
    pub builds: BuildsConfig,
    /// `[sites]`.
    pub sites: SitesConfig,
    /// `[operations.NAME]`: what builds each operation.
    pub operations: BTreeMap<Operation, OperationConfig>,
}

/// How the server is reached, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// `listen`: where it listens.
    pub listen: SocketAddr,
    /// `allowed_hosts`: the names, beside its address, by which clients may call it.
    pub allowed_hosts: Vec<String>,
    /// `allowed_origins`: the web origins, beside its own, whose pages may call it.
    pub allowed_origins: Vec<String>,
    /// `drain_time`: how long running builds have to end by themselves when it is told to stop.
    pub drain_time: Duration,
    /// `max_connections`: how many clients may be connected at once.
    pub max_connections: usize,
}

/// How builds are run and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildsConfig {
    /// The folder of the file: the working folder of every builder.
    pub folder: PathBuf,
    /// `workspaces`: where each project has a folder of its own; none: the server says where.
    pub workspaces: Option<PathBuf>,
    /// `keep_for` and `keep_bytes`: how long finished builds and their logs are kept.
    pub retention: BuildRetention,
    /// `log_line_limit`: the bytes of a line of a log; what is longer is cut.
    pub log_line_limit: usize,
    /// `log_limit`: the bytes of a whole log; what comes after is not kept.
    pub log_limit: u64,
    /// `max_running`: how many builds may run at once.
    pub max_running: usize,
}

/// Whether what builds have made is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SitesConfig {
    /// `folder`: the folder in each project's workspace that is served as its site; none: no site is
    /// served.
    pub folder: Option<PathBuf>,
}

/// What builds one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationConfig {
    /// `command` or `upstream`.
    pub builder: Builder,
    /// `ttl`: how long the lease lasts unless it is renewed. A server that was killed keeps a project
    /// locked no longer.
    pub ttl: Ttl,
    /// `time_limit`: how long a build may take.
    pub time_limit: Duration,
    /// `cancel_grace`: how long a build that is to stop has before it is killed.
    pub cancel_grace: Duration,
}

/// Who does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Builder {
    /// A program: the request comes on its standard input, its output is the log.
    Command(CommandBuilder),
    /// A server: the request is posted to this URL.
    Upstream(Url),
}

/// A program that builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandBuilder {
    /// The program: a path, or a name to be found in PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// `env`: variables for it.
    pub env: BTreeMap<String, String>,
    /// `pass_env`: the server's own variables that it gets as well. It gets no others, save those in
    /// [`PASSED_ALWAYS`].
    pub pass_env: Vec<String>,
}

/// The server's variables that every builder gets: where programs are, who and where the user is, and
/// in which language. No secret is among them.
pub const PASSED_ALWAYS: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A variable of the environment is wrong.
    #[error("the environment variable {name} {problem}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7878)),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            drain_time: Duration::from_secs(30),
            max_connections: 20_000,
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

impl Config {
    /// The settings without a file: no operation has a builder.
    pub fn without_file(folder: &Path) -> Self {
        Self {
            server: ServerConfig::default(),
            auth: AuthConfig::default(),
            builds: BuildsConfig {
                folder: folder.to_owned(),
                workspaces: None,
                retention: BuildRetention { max_age: Some(30 * DAY), max_bytes: Some(4 << 30) },
                log_line_limit: 16 << 10,
                log_limit: 64 << 20,
                max_running: 64,
            },
            sites: SitesConfig::default(),
            operations: BTreeMap::new(),
        }
    }

    /// Reads the file and checks it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the line, the key, what is wrong and what is allowed.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let path = std::path::absolute(path).map_err(unreadable)?;
        Self::parse(&path, &text)
    }

    /// Reads the text of a file with this absolute path.
    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let Self { server, builds, .. } = Self::without_file(folder);
        let mut file = Section::whole(Source { path, text })?;
        let config = Self {
            server: ServerConfig::parse(file.section("server")?, server)?,
            auth: AuthConfig::parse(file.section("auth")?)?,
            builds: BuildsConfig::parse(file.section("builds")?, builds)?,
            sites: SitesConfig::parse(file.section("sites")?)?,
            operations: operations(file.section("operations")?, folder)?,
        };
        file.end()?;
        Ok(config)
    }
}

impl ServerConfig {
    fn parse(mut section: Section<'_>, default: Self) -> Result<Self, ConfigError> {
        let listen = match section.text("listen")? {
            None => default.listen,
            Some((text, offset)) => text.parse().map_err(|_| {
                let problem = format!("is {text:?}; allowed: an address and a port, such as \"127.0.0.1:7878\"");
                section.bad("listen", offset, problem)
            })?,
        };
        let mut names = Vec::new();
        for (name, offset) in section.texts("allowed_hosts")?.unwrap_or_default() {
            if name.is_empty() || name.contains(['/', '@', ' ']) {
                let problem = format!("has {name:?}; allowed: host names, such as \"builds.example.com\"");
                return Err(section.bad("allowed_hosts", offset, problem));
            }
            names.push(name.to_ascii_lowercase());
        }
        let mut origins = Vec::new();
        for (origin, offset) in section.texts("allowed_origins")?.unwrap_or_default() {
            match Url::parse(&origin) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == origin => {
                    origins.push(origin);
                }
                _ => {
                    let problem = format!("has {origin:?}; allowed: web origins, such as \"https://app.example.com\"");
                    return Err(section.bad("allowed_origins", offset, problem));
                }
            }
        }
        let drain_time = section.duration("drain_time", Duration::ZERO..=DAY, "0s to 24h")?;
        let max_connections = section.number("max_connections", 1..=1_000_000)?;
        section.end()?;
        Ok(Self {
            listen,
            allowed_hosts: names,
            allowed_origins: origins,
            drain_time: drain_time.unwrap_or(default.drain_time),
            max_connections: max_connections.unwrap_or(default.max_connections),
        })
    }
}

impl BuildsConfig {
    fn parse(mut section: Section<'_>, default: Self) -> Result<Self, ConfigError> {
        let workspaces = section.path("workspaces", &default.folder)?;
        let max_age = section.duration("keep_for", SECOND..=DAY * 36_500, "1s or more, such as \"30d\"")?;
        let max_bytes = section.size("keep_bytes", 1..=u64::MAX, "1 or more, such as \"4GiB\"")?;
        let log_line_limit = section.size("log_line_limit", 80..=1 << 20, "80 bytes to 1MiB")?;
        let log_limit = section.size("log_limit", 1 << 10..=1 << 40, "1KiB to 1024GiB")?;
        let max_running = section.number("max_running", 1..=10_000)?;
        section.end()?;
        Ok(Self {
            workspaces,
            retention: BuildRetention {
                max_age: max_age.or(default.retention.max_age),
                max_bytes: max_bytes.or(default.retention.max_bytes),
            },
            log_line_limit: log_line_limit.map_or(default.log_line_limit, |bytes| bytes as usize),
            log_limit: log_limit.unwrap_or(default.log_limit),
            max_running: max_running.unwrap_or(default.max_running),
            folder: default.folder,
        })
    }
}

impl SitesConfig {
    fn parse(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let folder = match section.text("folder")? {
            None => None,
            Some((text, offset)) => {
                let folder = PathBuf::from(&text);
                let inside = folder.components().all(|part| matches!(part, Component::Normal(_)));
                if text.is_empty() || text.contains('\0') || !inside {
                    let problem = format!("is {text:?}; allowed: a folder in the workspace, such as \"site\"");
                    return Err(section.bad("folder", offset, problem));
                }
                Some(folder)
            }
        };
        section.end()?;
        Ok(Self { folder })
    }
}

fn operations(section: Section<'_>, folder: &Path) -> Result<BTreeMap<Operation, OperationConfig>, ConfigError> {
    let mut operations = BTreeMap::new();
    for (name, section) in section.sections()? {
        let operation =
            Operation::new(&name).map_err(|error| section.source.error(section.offset, error.to_string()))?;
        operations.insert(operation, OperationConfig::parse(section, folder)?);
    }
    Ok(operations)
}

impl OperationConfig {
    fn parse(mut section: Section<'_>, folder: &Path) -> Result<Self, ConfigError> {
        let command = section.texts("command")?;
        let upstream = section.text("upstream")?;
        let env = section.table_of_texts("env")?;
        let pass_env = section.texts("pass_env")?;
        let ttl = section.duration("ttl", SECOND..=DAY, "1s to 24h")?;
        let time_limit = section.duration("time_limit", SECOND..=DAY, "1s to 24h")?;
        let cancel_grace = section.duration("cancel_grace", Duration::ZERO..=SECOND * 600, "0s to 10m")?;
        let builder = match (command, upstream) {
            (Some(command), None) => {
                Builder::Command(CommandBuilder::parse(&section, command, env, pass_env.unwrap_or_default(), folder)?)
            }
            (None, Some((url, offset))) => {
                if !env.is_empty() || pass_env.is_some() {
                    return Err(section.bad(
                        "upstream",
                        offset,
                        "has no environment; env and pass_env go with command",
                    ));
                }
                Builder::Upstream(upstream_url(&section, &url, offset)?)
            }
            (Some(_), Some((_, offset))) => {
                return Err(section.bad("upstream", offset, "stands beside \"command\"; one of them builds"));
            }
            (None, None) => {
                let problem = format!("[{}] has no builder; give it a \"command\" or an \"upstream\"", section.name);
                let no_builder = section.source.error(section.offset, problem);
                // A misspelt key is the likelier mistake.
                section.end()?;
                return Err(no_builder);
            }
        };
        let ttl = ttl.map_or(Ok(Ttl::default()), Ttl::new);
        let ttl = ttl.map_err(|error| section.source.error(section.offset, error.to_string()))?;
        section.end()?;
        Ok(Self {
            builder,
            ttl,
            time_limit: time_limit.unwrap_or(Duration::from_secs(10 * 60)),
            cancel_grace: cancel_grace.unwrap_or(Duration::from_secs(10)),
        })
    }
}

impl CommandBuilder {
    fn parse(
        section: &Section<'_>,
        command: Vec<(String, usize)>,
        env: Vec<(String, String, usize)>,
        pass_env: Vec<(String, usize)>,
        folder: &Path,
    ) -> Result<Self, ConfigError> {
        for (word, offset) in &command {
            if word.contains('\0') {
                return Err(section.bad("command", *offset, "has a NUL character, which no program can be given"));
            }
        }
        let mut words = command.into_iter().map(|(word, _)| word);
        let program = match words.next() {
            Some(program) if !program.is_empty() => program,
            _ => {
                let problem = "is empty; name a program, such as [\"sh\", \"generate.sh\"]";
                return Err(section.bad("command", section.offset, problem));
            }
        };
        // As in a shell: a name without a slash is looked for in PATH.
        let program = if program.contains('/') { folder.join(program) } else { program.into() };
        for (name, offset) in env
            .iter()
            .map(|(name, _, offset)| (name, offset))
            .chain(pass_env.iter().map(|(name, offset)| (name, offset)))
        {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(section.bad(name, *offset, "is no name of a variable"));
            }
            if name.starts_with("BUILDLOCK_") {
                return Err(section.bad(name, *offset, "is for buildlock to set; choose another name"));
            }
        }
        if let Some((name, _, offset)) = env.iter().find(|(_, value, _)| value.contains('\0')) {
            return Err(section.bad(name, *offset, "has a NUL character, which no program can be given"));
        }
        Ok(Self {
            program,
            arguments: words.collect(),
            env: env.into_iter().map(|(name, value, _)| (name, value)).collect(),
            pass_env: pass_env.into_iter().map(|(name, _)| name).collect(),
        })
    }
}

fn upstream_url(section: &Section<'_>, url: &str, offset: usize) -> Result<Url, ConfigError> {
    const ALLOWED: &str = "allowed: a URL such as \"http://127.0.0.1:3000/api/generate\"";
    let bad = |problem: &str| section.bad("upstream", offset, format!("is {url:?}, {problem}; {ALLOWED}"));
    let parsed = Url::parse(url).map_err(|error| bad(&format!("which is no URL ({error})")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad("which is not http"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // Not repeated here: it would end up in a log.
        return Err(section.bad("upstream", offset, format!("has a user or a password in it; {ALLOWED}")));
    }
    Ok(parsed)
}
