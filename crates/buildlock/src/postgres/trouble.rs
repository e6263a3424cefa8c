//! What an error of the database means to whoever asked.

use std::io;

use crate::StoreError;

/// Why a statement gave no answer.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The connection is of no more use. Whether the statement was done is not known.
    Lost(StoreError),
    /// It was not done, and may be at the next try.
    Again(StoreError),
    /// It was not done, and would not be.
    Refused(StoreError),
}

impl Trouble {
    pub(super) fn error(self) -> StoreError {
        match self {
            Trouble::Lost(error) | Trouble::Again(error) | Trouble::Refused(error) => error,
        }
    }

    /// Reads the driver's error. `shown` is the store's name.
    pub(super) fn of(shown: &str, error: &tokio_postgres::Error) -> Self {
        let problem = said(error);
        let unavailable = |problem| unavailable(shown, problem);
        let Some(code) = error.code() else {
            return match kind(error) {
                Kind::Connection => Trouble::Lost(unavailable(problem)),
                Kind::Certificate => Trouble::Refused(not_allowed(shown, problem)),
                Kind::Other => Trouble::Refused(StoreError::Protocol(problem)),
            };
        };
        let not_migrated = || StoreError::NeedsMigration {
            store: shown.to_owned(),
            problem: "has no buildlock in it, or not all of it".to_owned(),
        };
        match code.code() {
            // A server that was demoted, or ends, or is about to.
            "25006" | "57P01" | "57P02" | "57P03" | "57P05" => Trouble::Lost(unavailable(problem)),
            // Something that a statement was prepared for is no longer the same.
            "0A000" if problem.contains("cached plan") => Trouble::Lost(unavailable(problem)),
            // A pooler that gives each transaction another connection.
            "26000" | "42P05" => Trouble::Lost(unavailable(format!(
                "{problem}; with a pooler in transaction mode before it, say so in the URL: ?pgbouncer=true"
            ))),
            "40001" | "40P01" => Trouble::Again(unavailable(problem)),
            "55P03" => {
                let problem = "another transaction keeps the project's row locked, and has not ended".to_owned();
                Trouble::Refused(unavailable(problem))
            }
            "57014" => Trouble::Refused(unavailable(problem)),
            // Also what the platform's own table is the place for.
            "42501" | "55000" => Trouble::Refused(not_allowed(shown, problem)),
            "3F000" | "42P01" | "42883" | "42703" => Trouble::Refused(not_migrated()),
            code if code.starts_with("08") || code.starts_with("53") || code.starts_with("58") => {
                Trouble::Lost(unavailable(problem))
            }
            code if code.starts_with("28") => Trouble::Refused(not_allowed(shown, problem)),
            "3D000" => Trouble::Refused(not_allowed(shown, problem)),
            _ => Trouble::Refused(StoreError::Protocol(format!("{problem} ({})", code.code()))),
        }
    }
}

/// An error that may pass.
pub(super) fn unavailable(shown: &str, problem: String) -> StoreError {
    StoreError::Unavailable { path: shown.into(), problem }
}

fn not_allowed(shown: &str, problem: String) -> StoreError {
    StoreError::NotAllowed { url: shown.to_owned(), problem }
}

/// What the server said, or else the innermost cause in the system's words.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return match said.hint() {
            Some(hint) => format!("{}; {hint}", said.message()),
            None => said.message().to_owned(),
        };
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What an error is that the server did not speak of.
enum Kind {
    /// The connection is gone, or could not be made.
    Connection,
    /// The server is not who it should be.
    Certificate,
    Other,
}

fn kind(error: &tokio_postgres::Error) -> Kind {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut kind = if error.is_closed() { Kind::Connection } else { Kind::Other };
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Kind::Certificate;
        }
        // An error of the system does not name the one that it is made of as its cause.
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            if let Some(rustls::Error::InvalidCertificate(_)) = inner {
                return Kind::Certificate;
            }
            kind = Kind::Connection;
        }
        cause = error.source();
    }
    kind
}
