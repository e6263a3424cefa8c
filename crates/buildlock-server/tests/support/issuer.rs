//! An issuer of tokens, as Supabase is one: keys of its own, a small server that publishes them, and tokens
//! that are signed with them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use buildlock_server::AuthConfig;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, RwLock};

/// The secret of tokens that are signed with HS256.
pub(crate) const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

/// A key that signs tokens.
pub(crate) enum SigningKey {
    Es256(EcdsaKeyPair),
    Rs256(Box<RsaKeyPair>),
    EdDsa(Ed25519KeyPair),
    Hs256(Vec<u8>),
}

impl SigningKey {
    pub(crate) fn es256() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Es256(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    pub(crate) fn eddsa() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    /// Made by OpenSSL: *ring* makes none.
    pub(crate) fn rs256() -> Self {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"])
            .stderr(Stdio::null())
            .output()
            .expect("openssl is to be installed");
        // Which of the two forms it is depends on OpenSSL's version.
        let key = RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout));
        Self::Rs256(Box::new(key.unwrap()))
    }

    pub(crate) fn secret(secret: &[u8]) -> Self {
        Self::Hs256(secret.to_owned())
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
            Self::EdDsa(_) => "EdDSA",
            Self::Hs256(_) => "HS256",
        }
    }

    /// The public key, as an issuer publishes it.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Es256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Rs256(key) => {
                let parts = signature::RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": text(&parts.n), "e": text(&parts.e)})
            }
            Self::EdDsa(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
            Self::Hs256(secret) => json!({"kty": "oct", "k": text(secret)}),
        };
        jwk["kid"] = kid.into();
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The public key as a file has it, in the two forms that somebody may take for a secret.
    pub(crate) fn public_files(&self) -> Vec<Vec<u8>> {
        let Self::Rs256(key) = self else { panic!("only of an RSA key") };
        let pkcs1 = key.public().as_ref();
        let mut openssl = Command::new("openssl")
            .args(["rsa", "-RSAPublicKey_in", "-inform", "DER", "-pubout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        openssl.stdin.take().unwrap().write_all(pkcs1).unwrap();
        let pem = openssl.wait_with_output().unwrap().stdout;
        assert!(pem.starts_with(b"-----BEGIN PUBLIC KEY-----"));
        vec![pem, pkcs1.to_owned(), BASE64_STANDARD.encode(pkcs1).into_bytes()]
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(key) => key.sign(&random, message).unwrap().as_ref().to_owned(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::EdDsa(key) => key.sign(message).as_ref().to_owned(),
            Self::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_owned(),
        }
    }

    /// A token with the header that this key should have.
    pub(crate) fn token(&self, kid: &str, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": kid}), claims)
    }

    /// A token with any header.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// What the issuer's server answers.
pub(crate) enum Published {
    Keys(Vec<Value>),
    Text(String),
    Status(u16),
    /// Nothing, until it is told to: then the keys.
    Late(Arc<Notify>, Vec<Value>),
}

/// The issuer: its server ends with the test.
pub(crate) struct Issuer {
    /// What its tokens name.
    pub(crate) url: String,
    published: Arc<RwLock<Published>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// Publishes these keys.
    pub(crate) async fn start(keys: Vec<Value>) -> Self {
        let published = Arc::new(RwLock::new(Published::Keys(keys)));
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = {
            let (published, asked) = (Arc::clone(&published), Arc::clone(&asked));
            async move || {
                asked.fetch_add(1, Ordering::SeqCst);
                let text = |keys: &Vec<Value>| (StatusCode::OK, json!({"keys": keys}).to_string());
                match &*published.read().await {
                    Published::Keys(keys) => text(keys),
                    Published::Text(answer) => (StatusCode::OK, answer.clone()),
                    Published::Status(status) => (StatusCode::from_u16(*status).unwrap(), String::new()),
                    Published::Late(told, keys) => {
                        told.notified().await;
                        text(keys)
                    }
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/auth/v1/.well-known/jwks.json", get(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url: format!("http://{address}/auth/v1"), published, asked }
    }

    /// What is published from now on.
    pub(crate) async fn publish(&self, published: Published) {
        *self.published.write().await = published;
    }

    /// How often the keys were asked for.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The settings of a server that takes this issuer's tokens, as `SUPABASE_URL` makes them.
    pub(crate) fn settings(&self, secret: Option<&str>) -> AuthConfig {
        let mut auth = AuthConfig::default();
        let url = self.url.strip_suffix("/auth/v1").unwrap().to_owned();
        auth.add_environment(|name| match name {
            "SUPABASE_URL" => Some(url.clone()),
            "SUPABASE_JWT_SECRET" => secret.map(str::to_owned),
            _ => None,
        })
        .unwrap();
        auth
    }

    /// The claims of a user's token, as Supabase makes them.
    pub(crate) fn claims(&self, sub: &str) -> Value {
        json!({
            "iss": self.url,
            "aud": "authenticated",
            "sub": sub,
            "role": "authenticated",
            "iat": now(),
            "exp": now() + 3_600,
            "session_id": "c1f0b9a0-55ad-4b5c-a2d0-0f4b8c1f0e55",
            "email": "ana@example.com",
            "is_anonymous": false,
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"buildlock_role": "operator"},
        })
    }
}
