//! `[auth.jwt]`: whose tokens are taken, beside the keys of buildlock's own.

use std::fmt;

use reqwest::Url;

use super::ConfigError;
use super::reader::Section;
use crate::jwt::KeySet;

/// Who gets in, beside those who have a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// `[auth.jwt]`.
    pub jwt: JwtConfig,
}

/// Whose tokens (JWT) are taken, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// `issuer`: who has issued a token, as its `iss` says; none: no token is taken.
    pub issuer: Option<String>,
    /// `jwks_url`: the keys with which the issuer signs.
    pub jwks: Option<Jwks>,
    /// `secret_env`: the environment variable with the secret of tokens that are signed with HS256.
    pub secret_env: Option<String>,
    /// What that variable has.
    pub secret: Option<JwtSecret>,
    /// `audience`: for whom a token is, as its `aud` says.
    pub audience: String,
    /// `operator_claim`: the key in a token's `app_metadata` that tells who is an operator.
    pub operator_claim: String,
    /// `operator_value`: what it then is, or has among others.
    pub operator_value: String,
}

/// Where an issuer's keys are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// They are fetched from there.
    Url(Url),
    /// The set itself, as JSON.
    Inline(String),
}

/// A secret that is shared with an issuer. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecret(Box<[u8]>);

impl JwtSecret {
    /// The least that a secret must have: as much as the hash (RFC 7518, 3.2).
    const MIN_BYTES: usize = 32;

    /// Takes the secret as it is, without decoding it, as Supabase does. None if it is too short to be one.
    pub fn new(text: &str) -> Option<Self> {
        (text.len() >= Self::MIN_BYTES).then(|| Self(text.as_bytes().into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret")
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            issuer: None,
            jwks: None,
            secret_env: None,
            secret: None,
            audience: "authenticated".to_owned(),
            operator_claim: "buildlock_role".to_owned(),
            operator_value: "operator".to_owned(),
        }
    }
}

/// Where an issuer publishes its keys, below its own URL.
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Where Supabase's sign-in is, below a project's URL.
const SUPABASE_AUTH_PATH: &str = "/auth/v1";

impl AuthConfig {
    pub(super) fn parse(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let jwt = JwtConfig::parse(section.section("jwt")?)?;
        section.end()?;
        Ok(Self { jwt })
    }

    /// Adds what the environment says: the secret of `secret_env`, and, where no issuer is set, the variables
    /// that Supabase's users have: `SUPABASE_URL`, `SUPABASE_JWKS`, `SUPABASE_JWKS_URL` and `SUPABASE_JWT_SECRET`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the variable, what is wrong and what is allowed.
    pub fn add_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if self.jwt.issuer.is_none() {
            self.jwt.add_supabase(&set)?;
        }
        let Some(name) = &self.jwt.secret_env else { return Ok(()) };
        let secret = set(name).ok_or_else(|| wrong(name, "is not set, and secret_env in [auth.jwt] names it"))?;
        let secret = JwtSecret::new(&secret)
            .ok_or_else(|| wrong(name, "is too short to be a secret; allowed: 32 bytes or more"))?;
        self.jwt.secret = Some(secret);
        Ok(())
    }
}

impl JwtConfig {
    fn parse(mut section: Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let issuer = some_text(&mut section, "issuer")?;
        let jwks_url = match section.text("jwks_url")? {
            None => None,
            Some((text, offset)) => {
                Some(web_address(&text).map_err(|problem| section.bad("jwks_url", offset, problem))?)
            }
        };
        let secret_env = some_text(&mut section, "secret_env")?;
        let audience = some_text(&mut section, "audience")?;
        let operator_claim = some_text(&mut section, "operator_claim")?;
        let operator_value = some_text(&mut section, "operator_value")?;
        let jwks = match (jwks_url, &issuer) {
            (Some(url), Some(_)) => Some(url),
            (None, Some(issuer)) => web_address(&format!("{}{JWKS_PATH}", issuer.trim_end_matches('/'))).ok(),
            (Some(_), None) => {
                let problem = "says where keys are, and no \"issuer\" says whose; set it as well";
                return Err(section.bad("jwks_url", section.offset, problem));
            }
            (None, None) => None,
        };
        if issuer.is_some() && jwks.is_none() && secret_env.is_none() {
            let problem = "is no URL where keys would be found; set \"jwks_url\" or \"secret_env\" as well";
            return Err(section.bad("issuer", section.offset, problem));
        }
        if issuer.is_none() && secret_env.is_some() {
            let problem = "names a secret, and no \"issuer\" says whose; set it as well";
            return Err(section.bad("secret_env", section.offset, problem));
        }
        section.end()?;
        Ok(Self {
            issuer,
            jwks: jwks.map(Jwks::Url),
            secret_env,
            secret: None,
            audience: audience.unwrap_or(default.audience),
            operator_claim: operator_claim.unwrap_or(default.operator_claim),
            operator_value: operator_value.unwrap_or(default.operator_value),
        })
    }

    fn add_supabase(&mut self, set: &impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        const URL: &str = "SUPABASE_URL";
        const JWKS: &str = "SUPABASE_JWKS";
        const JWKS_URL: &str = "SUPABASE_JWKS_URL";
        const SECRET: &str = "SUPABASE_JWT_SECRET";
        let address = |name: &'static str, text: &str| web_address(text).map_err(|problem| wrong(name, problem));
        let project = match set(URL) {
            None => None,
            Some(text) => {
                address(URL, &text)?;
                Some(format!("{}{SUPABASE_AUTH_PATH}", text.trim_end_matches('/')))
            }
        };
        let jwks_url = set(JWKS_URL);
        let issuer = project.clone().or_else(|| Some(jwks_url.as_deref()?.strip_suffix(JWKS_PATH)?.to_owned()));
        let jwks = if let Some(text) = set(JWKS) {
            KeySet::parse(text.as_bytes()).map_err(|error| wrong(JWKS, error.to_string()))?;
            Some((JWKS, Jwks::Inline(text)))
        } else if let Some(text) = &jwks_url {
            Some((JWKS_URL, Jwks::Url(address(JWKS_URL, text)?)))
        } else if let Some(issuer) = &project {
            Some((URL, Jwks::Url(address(URL, &format!("{issuer}{JWKS_PATH}"))?)))
        } else {
            None
        };
        let secret_env = set(SECRET).map(|_| SECRET);
        if let (None, Some(name)) = (&issuer, jwks.as_ref().map(|(name, _)| *name).or(secret_env)) {
            return Err(wrong(
                name,
                "is set, and nothing says whose tokens these are; set SUPABASE_URL as well, or unset it",
            ));
        }
        self.issuer = issuer;
        self.jwks = jwks.map(|(_, jwks)| jwks);
        self.secret_env = secret_env.map(str::to_owned);
        Ok(())
    }
}

fn wrong(name: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), problem: problem.into() }
}

fn some_text(section: &mut Section<'_>, key: &'static str) -> Result<Option<String>, ConfigError> {
    match section.text(key)? {
        Some((text, offset)) if text.trim().is_empty() => Err(section.bad(key, offset, "is empty; leave it out")),
        text => Ok(text.map(|(text, _)| text)),
    }
}

/// A URL of the web; else what is wrong with it. A password in it is not repeated.
fn web_address(text: &str) -> Result<Url, String> {
    const ALLOWED: &str = "allowed: a URL such as \"https://project.supabase.co\"";
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); {ALLOWED}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is not http; {ALLOWED}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("has a user or a password in it; {ALLOWED}"));
    }
    Ok(url)
}
