//! The command line: what can be said, and how it is checked. Every flag is also an environment
//! variable, named in its help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use buildlock::{Holder, Message, Operation, ProjectId, Reason, RequestId, Role, Token, Ttl, Wait};
use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::manual;
use crate::typed::Typed;

/// One build per project: never two at once, never stuck.
#[derive(Debug, Parser)]
#[command(name = "buildlock", version, after_help = manual::ALL, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The store: sqlite:PATH, postgres://…, or a server's URL, with your key in BUILDLOCK_API_KEY [default: a file in your data folder]
    #[arg(long, global = true, env = "BUILDLOCK_STORE", value_name = "URL", help_heading = "Global options")]
    pub(crate) store: Option<String>,
    // Not a doc comment: rustdoc would take it for a link.
    #[arg(
        long,
        global = true,
        env = "BUILDLOCK_HOLDER",
        value_name = "NAME",
        help_heading = "Global options",
        help = "Who you are, to others [default: user@host]"
    )]
    pub(crate) holder: Option<Holder>,
    /// Answer in JSON
    #[arg(long, global = true, env = "BUILDLOCK_JSON", value_parser = FalseyValueParser::new(), help_heading = "Global options")]
    pub(crate) json: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true, env = "BUILDLOCK_QUIET", value_parser = FalseyValueParser::new(), help_heading = "Global options")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command under a project's lock
    #[command(after_help = manual::RUN)]
    Run(Run),
    /// Lock a project, and print the lease's token
    #[command(after_help = manual::LOCK)]
    Lock(Lock),
    /// Extend a lease
    #[command(after_help = manual::RENEW)]
    Renew(Renew),
    /// End a lease of one's own
    #[command(after_help = manual::UNLOCK)]
    Unlock(Unlock),
    /// Show who holds what, and who waits
    #[command(after_help = manual::STATUS)]
    Status(Status),
    /// End somebody's lease, on record
    #[command(after_help = manual::FORCE_UNLOCK)]
    ForceUnlock(ForceUnlock),
    /// Show what happened
    #[command(after_help = manual::HISTORY)]
    History(History),
    /// List the projects; add or delete one
    #[command(after_help = manual::PROJECTS)]
    Projects(Projects),
    /// The keys of a server's clients: list, add or revoke them
    #[command(after_help = manual::KEYS)]
    Keys(Keys),
    /// Serve the store over HTTP, run builds, and show a page
    #[command(after_help = manual::SERVE)]
    Serve(Serve),
    /// Print a new link to a server's page, which signs in once
    #[command(after_help = manual::SIGN_IN)]
    SignIn,
    /// Make the store, or bring it up to this version
    #[command(after_help = manual::MIGRATE)]
    Migrate(Migrate),
    /// Check the store and this machine, and say what to do
    #[command(after_help = manual::DOCTOR)]
    Doctor,
    /// Supervise a build for a server, which starts this itself
    #[command(hide = true)]
    BuildSupervisor(BuildSupervisor),
    /// Print the completions for a shell
    #[command(after_help = manual::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command
    #[command(after_help = manual::MAN)]
    Man {
        /// The folder to write to
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
}

/// What `run` and `lock` ask for.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// What you do: generate, edit or any name
    #[arg(long, env = "BUILDLOCK_OPERATION", value_name = "NAME", default_value = "build")]
    pub(crate) operation: Operation,
    /// A word to those who find the project locked
    #[arg(long, env = "BUILDLOCK_MESSAGE", value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: Message,
    /// How long the lease lasts unless it is renewed: 1s to 24h
    #[arg(long, env = "BUILDLOCK_TTL", value_name = "DURATION", default_value = "30s", value_parser = ttl)]
    pub(crate) ttl: Ttl,
    /// Wait in line if the project is locked: up to 24h
    #[arg(long, env = "BUILDLOCK_WAIT", value_name = "DURATION", value_parser = wait)]
    pub(crate) wait: Option<Wait>,
    /// The exit code when the project is locked
    #[arg(short = 'E', long, env = "BUILDLOCK_CONFLICT_EXIT_CODE", value_name = "CODE", default_value_t = 75)]
    pub(crate) conflict_exit_code: u8,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The project
    #[arg(env = "BUILDLOCK_PROJECT")]
    pub(crate) project: ProjectId,
    #[command(flatten)]
    pub(crate) request: Request,
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildSupervisor {
    /// The command, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Lock {
    /// The project
    #[arg(env = "BUILDLOCK_PROJECT")]
    pub(crate) project: ProjectId,
    #[command(flatten)]
    pub(crate) request: Request,
    /// A name for this request: repeated, it gives the same lease and never a second one
    #[arg(long, env = "BUILDLOCK_REQUEST", value_name = "KEY", value_parser = RequestId::from_key)]
    pub(crate) request_id: Option<RequestId>,
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// The project
    #[arg(env = "BUILDLOCK_PROJECT")]
    pub(crate) project: ProjectId,
    /// The lease's token
    #[arg(long, env = "BUILDLOCK_TOKEN", value_name = "N")]
    pub(crate) token: Token,
    /// How long it shall last from now on [default: the lease's own TTL]
    #[arg(long, env = "BUILDLOCK_TTL", value_name = "DURATION", value_parser = ttl)]
    pub(crate) ttl: Option<Ttl>,
}

#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// The project
    #[arg(env = "BUILDLOCK_PROJECT")]
    pub(crate) project: ProjectId,
    /// The lease's token
    #[arg(long, env = "BUILDLOCK_TOKEN", value_name = "N")]
    pub(crate) token: Token,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The project [default: all that are held]
    pub(crate) project: Option<ProjectId>,
    /// Go on showing it, whenever it changes
    #[arg(short, long, env = "BUILDLOCK_WATCH", value_parser = FalseyValueParser::new())]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ForceUnlock {
    /// The project
    pub(crate) project: ProjectId,
    /// The token that `status` shows, so that nobody else's lease is hit by mistake
    #[arg(long, value_name = "N")]
    pub(crate) token: Token,
    /// Why; it is kept in the history
    #[arg(long, env = "BUILDLOCK_REASON", value_name = "TEXT")]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The project [default: all]
    pub(crate) project: Option<ProjectId>,
    /// How many events, newest first
    #[arg(short = 'n', long, env = "BUILDLOCK_LIMIT", value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// Only events before this one, to see more
    #[arg(long, env = "BUILDLOCK_BEFORE", value_name = "ID")]
    pub(crate) before: Option<u64>,
    /// From now on keep history this long: at least 24h
    #[arg(long, value_name = "DURATION", value_parser = age, conflicts_with_all = ["project", "before", "keep_all"])]
    pub(crate) keep_for: Option<Duration>,
    /// From now on keep this many events beside the last day's
    #[arg(long, value_name = "N", conflicts_with_all = ["project", "before", "keep_all"])]
    pub(crate) keep_last: Option<u64>,
    /// From now on keep everything, as is the default
    #[arg(long, conflicts_with_all = ["project", "before"])]
    pub(crate) keep_all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Projects {
    #[command(subcommand)]
    pub(crate) action: Option<ProjectsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectsAction {
    /// List them all
    List,
    /// Add one (one that is locked is added by itself)
    Add {
        /// The project
        project: ProjectId,
    },
    /// Delete one that is idle
    Delete {
        /// The project
        project: ProjectId,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) action: Option<KeysAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// List them all; the keys themselves are known to their owners only
    List,
    /// Add one, and print it: this once, since only its hash is kept
    Add {
        /// Whose it is, to others: a user id, or a service's name
        owner: Holder,
        /// What the owner may do: a user sees and locks its own projects, a service all, for its users too;
        /// an operator may do everything
        #[arg(long, env = "BUILDLOCK_ROLE", value_name = "ROLE", default_value = "user", value_parser = role())]
        role: Role,
    },
    /// Revoke one, for ever
    Revoke {
        /// Its number, as the list shows it
        number: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The settings [default: ./buildlock.toml, or buildlock/buildlock.toml in your configuration folder]
    #[arg(long, env = "BUILDLOCK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen [default: as the settings say, or 127.0.0.1:7878]
    #[arg(long, env = "BUILDLOCK_LISTEN", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// The port to listen on, as some platforms name it
    #[arg(long, env = "PORT", hide = true)]
    pub(crate) port: Option<u16>,
    /// The address to listen on, as some platforms name it
    #[arg(long, env = "HOST", hide = true)]
    pub(crate) host: Option<String>,
    /// A name by which clients may call the server, beside its address
    #[arg(long, env = "BUILDLOCK_ALLOW_HOST", value_name = "HOST", value_delimiter = ',')]
    pub(crate) allow_host: Vec<String>,
    /// How to write the log
    #[arg(long, env = "BUILDLOCK_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// How to write the log.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Print the SQL and do nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// PostgreSQL: adopt the platform's own table of projects, which shows who builds what from then on
    #[arg(long, env = "BUILDLOCK_ADOPT", value_name = "SCHEMA.TABLE")]
    pub(crate) adopt: Option<String>,
    /// The adopted table's column that tells whose a project is [default: user_id]
    #[arg(long, env = "BUILDLOCK_OWNER_COLUMN", value_name = "COLUMN")]
    pub(crate) owner_column: Option<String>,
    /// PostgreSQL: with --print, the SQL that takes buildlock out again
    #[arg(long, requires = "print", conflicts_with = "adopt")]
    pub(crate) down: bool,
}

/// Whether a command line that is not understood asks for JSON; if so, whether on standard output,
/// which with `run` is the command's own.
pub(crate) fn asks_for_json() -> Option<bool> {
    // A parser that does not mind errors still stops at the first.
    let lenient = || Cli::command().ignore_errors(true);
    let in_environment = || lenient().try_get_matches_from([""]).is_ok_and(|matches| matches.get_flag("json"));
    let is_run = || lenient().try_get_matches().is_ok_and(|matches| matches.subcommand_name() == Some("run"));
    (Typed::now().has("--json") || in_environment()).then(|| !is_run())
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str))
        .map(|name| Role::ALL.into_iter().find(|role| role.as_str() == name).unwrap_or(Role::User))
}

fn ttl(text: &str) -> Result<Ttl, String> {
    Ttl::new(duration(text)?).map_err(|error| error.to_string())
}

fn wait(text: &str) -> Result<Wait, String> {
    Wait::new(duration(text)?).map_err(|error| error.to_string())
}

fn age(text: &str) -> Result<Duration, String> {
    let age = duration(text)?;
    if age < Duration::from_secs(24 * 60 * 60) {
        return Err("the last day is always kept; allowed: 24h or more".to_owned());
    }
    Ok(age)
}

fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || "it is no duration; allowed: such as 30s, 5m, 1h30m".to_owned();
    let duration: SignedDuration = text.parse().map_err(|_| allowed())?;
    Duration::try_from(duration).map_err(|_| allowed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "30", "-5s", "soon", "5 parsecs"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
