//! The names and numbers a lock speaks of. Each can only be made from a valid value.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// A value that is not allowed: names the field, what is wrong with it, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}; allowed: {allowed}")]
pub struct Invalid {
    /// The field as users know it, such as `project` or `ttl`.
    pub field: &'static str,
    /// What is wrong, as the rest of a sentence that begins with the field.
    pub problem: String,
    /// What would be accepted.
    pub allowed: &'static str,
}

/// How long a text may be, and in what unit.
enum Limit {
    Bytes(usize),
    Chars(usize),
}

fn check(
    field: &'static str,
    text: &str,
    allow_empty: bool,
    limit: Limit,
    allowed: &'static str,
) -> Result<(), Invalid> {
    let problem = if text.is_empty() && !allow_empty {
        "is empty".to_owned()
    } else if let Some(control) = text.chars().find(|c| c.is_control()) {
        format!("has the control character U+{:04X}", u32::from(control))
    } else {
        match limit {
            Limit::Bytes(most) if text.len() > most => format!("is {} bytes long", text.len()),
            // The byte length bounds the count, so a huge text is refused without a walk through it.
            Limit::Chars(most) if text.len() > most * 4 || text.chars().count() > most => {
                format!("is longer than {most} characters")
            }
            _ => return Ok(()),
        }
    };
    Err(Invalid { field, problem, allowed })
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $empty:literal, $limit:expr, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it.
            ///
            /// # Errors
            ///
            #[doc = concat!("[`Invalid`] unless it is: ", $allowed, ".")]
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                check($field, text.as_ref(), $empty, $limit, $allowed)?;
                Ok(Self(text.as_ref().into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text!(
    /// What is locked. Any text a platform uses as an id; it is data everywhere, never a path.
    ProjectId, "project", false, Limit::Bytes(200), "1 to 200 bytes of UTF-8 without control characters"
);
text!(
    /// Who holds a lease or waits for one: a user id or a service's name.
    Holder, "holder", false, Limit::Bytes(200), "1 to 200 bytes of UTF-8 without control characters"
);
text!(
    /// What a build does: `generate`, `edit`, or any name.
    Operation, "operation", false, Limit::Bytes(64), "1 to 64 bytes of UTF-8 without control characters"
);
text!(
    /// A word to those who find the project locked. May be empty.
    Message, "message", true, Limit::Chars(500), "up to 500 characters without control characters"
);
text!(
    /// Why an operator ended somebody's lease.
    Reason, "reason", false, Limit::Chars(500), "1 to 500 characters without control characters"
);

impl Default for Operation {
    /// `build`.
    fn default() -> Self {
        Self("build".into())
    }
}

impl Default for Message {
    /// No message.
    fn default() -> Self {
        Self("".into())
    }
}

/// Names one lock request, so that repeating it is safe (rule 4).
///
/// [`RequestId::fresh`] is time-ordered (UUIDv7), which keeps a store's index of past requests
/// compact; any other UUID works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A request id nobody has used before.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The request id for a caller's own key: a UUID is taken as it is, any other text is hashed
    /// to one (UUIDv5), so that equal keys are equal requests.
    ///
    /// # Errors
    ///
    /// [`Invalid`] unless it is 1 to 200 bytes without control characters.
    pub fn from_key(key: &str) -> Result<Self, Invalid> {
        check(
            "request",
            key,
            false,
            Limit::Bytes(200),
            "a UUID, or 1 to 200 bytes of UTF-8 without control characters",
        )?;
        Ok(Self(Uuid::parse_str(key).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()))))
    }

    /// The request id as a UUID.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Uuid> for RequestId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A fencing token (rule 2): larger for every later grant in a store, at least 1, below 2^53 so
/// that every JSON reader keeps it exact.
///
/// See Martin Kleppmann, "How to do distributed locking" (2016), for what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Token(u64);

impl Token {
    /// The first token of a new store.
    pub const FIRST: Token = Token(1);
    const LARGEST: u64 = (1 << 53) - 1;

    /// Checks a number that should be a token.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it is 0 or does not fit in 53 bits.
    pub fn new(number: u64) -> Result<Self, Invalid> {
        if (1..=Self::LARGEST).contains(&number) {
            return Ok(Self(number));
        }
        Err(Invalid { field: "token", problem: format!("is {number}"), allowed: "a whole number from 1 to 2^53 - 1" })
    }

    /// The token after this one.
    ///
    /// # Panics
    ///
    /// After 2^53 grants, which at a million grants a second is 285 years away.
    #[must_use]
    pub fn next(self) -> Self {
        assert!(self.0 < Self::LARGEST, "the fencing tokens are used up");
        Self(self.0 + 1)
    }

    /// The token as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Token {
    type Error = Invalid;
    fn try_from(number: u64) -> Result<Self, Invalid> {
        Self::new(number)
    }
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        token.0
    }
}

impl FromStr for Token {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = text.parse().map_err(|_| Invalid {
            field: "token",
            problem: format!("is {text:?}"),
            allowed: "a whole number from 1 to 2^53 - 1",
        })?;
        Self::new(number)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_id_is_1_to_200_bytes_without_control_characters() {
        for good in
            ["p", "../x", "a/b", "'; drop table projects; --", "--help", "🏗️", "\u{202e}abc", " ", &"é".repeat(100)]
        {
            assert_eq!(ProjectId::new(good).unwrap().as_str(), good);
        }
        for (bad, problem) in [
            ("", "is empty"),
            ("a\nb", "has the control character U+000A"),
            ("\u{1b}[2J", "has the control character U+001B"),
            ("\0", "has the control character U+0000"),
            (&"é".repeat(101), "is 202 bytes long"),
        ] {
            let error = ProjectId::new(bad).unwrap_err();
            assert_eq!((error.field, error.problem.as_str()), ("project", problem));
            assert!(error.to_string().ends_with("allowed: 1 to 200 bytes of UTF-8 without control characters"));
        }
    }

    #[test]
    fn a_message_may_be_empty_and_is_counted_in_characters() {
        assert!(Message::new("").is_ok());
        assert!(Message::new("🏗".repeat(500)).is_ok());
        assert_eq!(Message::new("🏗".repeat(501)).unwrap_err().problem, "is longer than 500 characters");
        assert!(Reason::new("").is_err());
    }

    #[test]
    fn a_request_key_is_a_uuid_or_any_text() {
        let uuid = "0190d6a0-0000-7000-8000-000000000001";
        assert_eq!(RequestId::from_key(uuid).unwrap().to_string(), uuid);
        assert_eq!(RequestId::from_key("ci run 7").unwrap(), RequestId::from_key("ci run 7").unwrap());
        assert_ne!(RequestId::from_key("ci run 7").unwrap(), RequestId::from_key("ci run 8").unwrap());
        assert!(RequestId::from_key("").is_err());
    }

    #[test]
    fn a_token_fits_in_53_bits() {
        assert!(Token::new(0).is_err());
        assert!(Token::new(1 << 53).is_err());
        assert!("x".parse::<Token>().is_err());
        assert_eq!("9007199254740991".parse::<Token>().unwrap().get(), (1 << 53) - 1);
        assert!(serde_json::from_str::<Token>("0").is_err());
    }
}
