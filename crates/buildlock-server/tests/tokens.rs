//! Tokens of a platform's own sign-in: which are taken, whom they speak for, and what becomes of it when the
//! issuer changes its keys or is away.

mod support;

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};
use support::issuer::{Issuer, Published, SECRET, SigningKey, now};
use support::{Answer, TestServer};
use tokio::sync::Notify;

const ANA: &str = "5f0c8a4e-8f0a-4a35-9d5c-0a54f2f2b3c1";
const BEN: &str = "a7e1f9d2-27b5-4d57-8b7e-d3c7a2b9e410";

/// A server that takes an issuer's tokens, the issuer, and its key, whose name is "k1".
struct World {
    server: TestServer,
    issuer: Issuer,
    key: SigningKey,
}

impl World {
    async fn new(key: SigningKey) -> Self {
        Self::with(key, None).await
    }

    async fn with(key: SigningKey, secret: Option<&str>) -> Self {
        let issuer = Issuer::start(vec![key.jwk("k1")]).await;
        let auth = issuer.settings(secret);
        let server = TestServer::start_with(|options| options.config.auth = auth).await;
        Self { server, issuer, key }
    }

    /// A good token with these claims changed; one that is null is left out.
    fn token(&self, changes: Value) -> String {
        self.key.token("k1", &self.claims(changes))
    }

    fn claims(&self, changes: Value) -> Value {
        let mut claims = self.issuer.claims(ANA);
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            }
        }
        claims
    }

    /// Who a token is to the server.
    async fn me(&self, token: &str) -> Answer {
        self.server.with(token).get("/v1/me").await
    }

    /// Why a token is refused.
    async fn refused(&self, token: &str) -> String {
        let answer = self.me(token).await;
        assert_eq!(answer.headers.get("www-authenticate").map(|value| value.as_bytes()), Some(&b"Bearer"[..]));
        answer.expect_problem(401, "UNAUTHENTICATED")["detail"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_token_is_its_users_whichever_algorithm_its_key_is_for() {
    for key in [SigningKey::es256(), SigningKey::rs256(), SigningKey::eddsa()] {
        let world = World::new(key).await;
        let me = world.me(&world.token(json!({}))).await.expect(200);
        assert_eq!((&me["holder"], &me["role"]), (&ANA.into(), &"user".into()), "{}", world.key.algorithm());
    }
    let world = World::with(SigningKey::es256(), Some(SECRET)).await;
    let secret = SigningKey::secret(SECRET.as_bytes());
    let claims = world.claims(json!({}));
    for token in [secret.token("any", &claims), secret.token_with(&json!({"alg": "HS256"}), &claims)] {
        assert_eq!(world.me(&token).await.expect(200)["holder"], ANA);
    }
}

#[tokio::test]
async fn a_token_that_is_signed_by_another_or_not_at_all_is_refused() {
    let world = World::new(SigningKey::es256()).await;
    let good = world.token(json!({}));
    world.me(&good).await.expect(200);

    let by_another = SigningKey::es256().token("k1", &world.claims(json!({})));
    assert_eq!(world.refused(&by_another).await, "the token's signature is not its issuer's");

    let (signed, signature) = good.rsplit_once('.').unwrap();
    let header = signed.split_once('.').unwrap().0;
    let of_ben = BASE64_URL_SAFE_NO_PAD.encode(world.claims(json!({"sub": BEN})).to_string());
    world.refused(&format!("{header}.{of_ben}.{signature}")).await;
    world.refused(&format!("{signed}.")).await;
    world.refused(&format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 64]))).await;

    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": none, "kid": "k1"}).to_string());
        let claims = signed.split_once('.').unwrap().1;
        for signature in ["", signature] {
            let detail = world.refused(&format!("{header}.{claims}.{signature}")).await;
            assert_eq!(detail, "the token is signed in a way that is not accepted here", "{none}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_nobodys_secret() {
    // With a secret set as well, HS256 is an algorithm that is accepted: of the secret alone.
    for secret in [None, Some(SECRET)] {
        let world = World::with(SigningKey::rs256(), secret).await;
        let claims = world.claims(json!({}));
        for public in world.key.public_files() {
            let forged = SigningKey::secret(&public).token("k1", &claims);
            world.refused(&forged).await;
        }
        // Nor does the name of another algorithm change what the key is for.
        for alg in ["HS256", "ES256", "EdDSA", "RS384", "RS512", "PS256", "HS512"] {
            world.refused(&world.key.token_with(&json!({"alg": alg, "kid": "k1"}), &claims)).await;
        }
        world.me(&world.key.token("k1", &claims)).await.expect(200);
    }
}

#[tokio::test]
async fn a_published_secret_is_no_key() {
    let secret = SigningKey::secret(SECRET.as_bytes());
    let world = World::new(SigningKey::es256()).await;
    world.issuer.publish(Published::Keys(vec![world.key.jwk("k1"), secret.jwk("s")])).await;
    world.refused(&secret.token("s", &world.claims(json!({})))).await;
    world.refused(&secret.token_with(&json!({"alg": "ES256", "kid": "s"}), &world.claims(json!({})))).await;
}

#[tokio::test]
async fn a_token_is_good_in_its_time_only_give_or_take_half_a_minute() {
    let world = World::new(SigningKey::es256()).await;
    for (changes, is_good) in [
        (json!({"exp": now() - 20}), true),
        (json!({"exp": now() - 40}), false),
        (json!({"exp": (now() + 60) as f64 + 0.5}), true),
        (json!({"exp": 1e300}), true),
        (json!({"exp": 0}), false),
        (json!({"exp": -1e300}), false),
        (json!({"exp": null}), false),
        (json!({"exp": "tomorrow"}), false),
        (json!({"nbf": now() + 20}), true),
        (json!({"nbf": now() + 60}), false),
        (json!({"nbf": now() - 60}), true),
    ] {
        let answer = world.me(&world.token(changes.clone())).await;
        assert_eq!(answer.status, if is_good { 200 } else { 401 }, "{changes}: {answer:?}");
    }
    let expired = world.refused(&world.token(json!({"exp": now() - 40}))).await;
    assert_eq!(expired, "the token has expired; sign in again, or have it refreshed");
}

#[tokio::test]
async fn a_token_of_another_issuer_or_for_others_is_refused() {
    let world = World::new(SigningKey::es256()).await;
    for iss in [json!(null), json!(""), json!("https://evil.example/auth/v1"), json!(format!("{}/", world.issuer.url))]
    {
        let detail = world.refused(&world.token(json!({"iss": iss}))).await;
        assert_eq!(detail, "the token is from another issuer (iss)", "{iss}");
    }
    for aud in [json!(null), json!(""), json!("anon"), json!([]), json!(["other"]), json!("authenticated ")] {
        let detail = world.refused(&world.token(json!({"aud": aud}))).await;
        assert_eq!(detail, "the token is meant for others (aud)", "{aud}");
    }
    world.me(&world.token(json!({"aud": ["other", "authenticated"]}))).await.expect(200);
}

#[tokio::test]
async fn a_token_must_say_whose_it_is() {
    let world = World::new(SigningKey::es256()).await;
    assert_eq!(world.refused(&world.token(json!({"sub": null}))).await, "the token does not say whose it is (sub)");
    for sub in ["", "a\nb", &"x".repeat(201)] {
        assert_eq!(world.refused(&world.token(json!({"sub": sub}))).await, "the token's sub is no holder's name");
    }
    world.refused(&world.token(json!({"sub": 7}))).await;
}

#[tokio::test]
async fn what_is_no_token_is_refused_whatever_it_looks_like() {
    let world = World::new(SigningKey::es256()).await;
    let good = world.token(json!({}));
    let parts: Vec<_> = good.split('.').collect();
    let text = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let deep = text(&format!("{}{}", "[".repeat(4_000), "]".repeat(4_000)));
    for bad in [
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b".to_owned(),
        "a.b.c".to_owned(),
        "a.b.c.d".to_owned(),
        format!("{good}.{}", parts[2]),
        format!("{good}="),
        format!(".{good}"),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}", parts[1], parts[1], parts[2]),
        format!("{}.{}.{}", text("{}"), parts[1], parts[2]),
        format!("{}.{}.{}", text("null"), parts[1], parts[2]),
        format!("{}.{}.{}", deep, parts[1], parts[2]),
        format!("{}.{}.{}", text(r#"{"alg": "ES256"}"#), parts[1], parts[2]),
        format!("{}.{}.{}", text(r#"{"alg": "ES256", "alg": "ES256", "kid": "k1"}"#), parts[1], parts[2]),
        world
            .key
            .token_with(&json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false}), &world.claims(json!({}))),
        world.key.token("k1", &json!(null)),
        world.key.token("k1", &json!([])),
        world.key.token("k1", &json!("ana")),
        world.token(json!({"aud": {"authenticated": true}})),
        world.token(json!({"role": "postgres"})),
        world.token(json!({"role": ["service_role"]})),
    ] {
        world.refused(&bad).await;
    }
    let long = world.token(json!({"padding": "x".repeat(13_000)}));
    assert_eq!(world.refused(&long).await, "the token is too long; allowed: up to 16 KiB");
    let endless = world.token(json!({"padding": "x".repeat(30_000)}));
    world.me(&endless).await.expect_problem(431, "INVALID_REQUEST");
    world.me(&good).await.expect(200);
}

#[tokio::test]
async fn a_user_sees_and_locks_its_own_projects_only() {
    let world = World::new(SigningKey::es256()).await;
    let ana = world.server.with(&world.token(json!({})));
    let ben = world.server.with(&world.token(json!({"sub": BEN})));
    let lease = ana.post("/v1/projects/whales/lock", json!({})).await.expect(201);
    assert_eq!(lease["holder"], ANA);
    ana.get("/v1/projects/whales").await.expect(200);
    ben.get("/v1/projects/whales").await.expect_problem(404, "PROJECT_NOT_FOUND");
    ben.post("/v1/projects/whales/lock", json!({})).await.expect_problem(404, "PROJECT_NOT_FOUND");
    assert_eq!(ben.get("/v1/projects").await.expect(200)["projects"], json!([]));
    ben.get("/v1/history").await.expect_problem(403, "FORBIDDEN");
    let in_anas_name = ben.request(Method::GET, "/v1/me").header("buildlock-holder", ANA);
    Answer::of(in_anas_name).await.expect_problem(403, "FORBIDDEN");
    let force = json!({"token": lease["token"], "reason": "mine now"});
    ben.post("/v1/projects/whales/force-unlock", force).await.expect_problem(404, "PROJECT_NOT_FOUND");
    let token = &lease["token"];
    ana.delete(&format!("/v1/projects/whales/lock?token={token}")).await.expect(200);
}

#[tokio::test]
async fn a_backend_with_the_service_role_acts_for_its_users() {
    let world = World::with(SigningKey::es256(), Some(SECRET)).await;
    let service = world.token(json!({"role": "service_role", "sub": null}));
    let me = world.me(&service).await.expect(200);
    assert_eq!((&me["holder"], &me["role"]), (&"service_role".into(), &"service".into()));
    let for_ana = world.server.with(&service).request(Method::GET, "/v1/me").header("buildlock-holder", ANA);
    assert_eq!(Answer::of(for_ana).await.expect(200)["holder"], ANA);

    // The keys that every project had before 2025.
    let secret = SigningKey::secret(SECRET.as_bytes());
    let legacy = |role: &str| json!({"iss": "supabase", "ref": "abc", "role": role, "exp": now() + 60});
    assert_eq!(world.me(&secret.token("x", &legacy("service_role"))).await.expect(200)["role"], "service");
    assert!(world.refused(&secret.token("x", &legacy("anon"))).await.starts_with("this is an anon key"));
    world.refused(&secret.token("x", &legacy("authenticated"))).await;
    // Only of the secret: another issuer of that name has none.
    world.refused(&world.key.token("k1", &legacy("service_role"))).await;
    assert!(world.refused(&world.token(json!({"role": "anon"}))).await.starts_with("this is an anon key"));
}

#[tokio::test]
async fn an_operator_is_who_the_platform_says_is_one_and_not_who_says_so_itself() {
    let world = World::new(SigningKey::es256()).await;
    let role = async |changes: Value| world.me(&world.token(changes)).await.expect(200)["role"].clone();
    assert_eq!(role(json!({"user_metadata": {"buildlock_role": "operator"}})).await, "user");
    assert_eq!(role(json!({"buildlock_role": "operator"})).await, "user");
    for said in [json!("admin"), json!(true), json!(null), json!({"operator": true}), json!(["user"])] {
        assert_eq!(role(json!({"app_metadata": {"buildlock_role": said}})).await, "user", "{said}");
    }
    for said in [json!("operator"), json!(["user", "operator"])] {
        assert_eq!(role(json!({"app_metadata": {"buildlock_role": said}})).await, "operator", "{said}");
    }
    let ana = world.server.with(&world.token(json!({})));
    let lease = ana.post("/v1/projects/whales/lock", json!({})).await.expect(201);
    let ben = json!({"sub": BEN, "app_metadata": {"buildlock_role": "operator"}});
    let ben = world.server.with(&world.token(ben));
    let force = json!({"token": lease["token"], "reason": "it hangs"});
    ben.post("/v1/projects/whales/force-unlock", force).await.expect(200);
    let history = ana.get("/v1/projects/whales/history").await.expect(200);
    assert!(history.to_string().contains("it hangs"), "{history}");
    // A link would outlive the token.
    ben.post("/v1/sign-in-links", json!({})).await.expect_problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn a_server_without_an_issuer_takes_no_token() {
    let server = TestServer::start().await;
    let token = SigningKey::es256().token("k1", &json!({"sub": ANA}));
    let refused = server.with(&token).get("/v1/me").await.expect_problem(401, "UNAUTHENTICATED");
    assert!(refused["detail"].as_str().unwrap().contains("takes keys only"), "{refused}");
}

#[tokio::test]
async fn keys_that_the_settings_have_are_not_fetched() {
    let key = SigningKey::es256();
    let issuer = Issuer::start(vec![]).await;
    let mut auth = issuer.settings(None);
    auth.jwt.jwks = Some(buildlock_server::Jwks::Inline(json!({"keys": [key.jwk("k1")]}).to_string()));
    let server = TestServer::start_with(|options| options.config.auth = auth).await;
    let me = server.with(&key.token("k1", &issuer.claims(ANA))).get("/v1/me").await.expect(200);
    assert_eq!(me["holder"], ANA);
    server.with(&key.token("k2", &issuer.claims(ANA))).get("/v1/me").await.expect_problem(401, "UNAUTHENTICATED");
    assert_eq!(issuer.asked(), 0);
}

#[tokio::test]
async fn a_crowd_of_unknown_keys_makes_one_fetch_and_known_keys_go_on() {
    let told = Arc::new(Notify::new());
    let key = SigningKey::es256();
    let issuer = Issuer::start(vec![]).await;
    issuer.publish(Published::Late(Arc::clone(&told), vec![key.jwk("k1")])).await;
    let auth = issuer.settings(None);
    let server = TestServer::start_with(|options| options.config.auth = auth).await;
    // While the keys are on their way, whoever comes waits for them.
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..50 {
        let kid = if number % 2 == 0 { "k1".to_owned() } else { format!("made up {number}") };
        let asker = server.with(&key.token(&kid, &issuer.claims(ANA)));
        asking.spawn(async move { (number % 2 == 0, asker.get("/v1/me").await.status.as_u16()) });
    }
    told.notify_one();
    while let Some(answer) = asking.join_next().await {
        let (is_known, status) = answer.unwrap();
        assert_eq!(status, if is_known { 200 } else { 401 });
    }
    assert_eq!(issuer.asked(), 1);
    for number in 0..50 {
        let made_up = server.with(&key.token(&format!("another {number}"), &issuer.claims(ANA)));
        made_up.get("/v1/me").await.expect_problem(401, "UNAUTHENTICATED");
    }
    server.with(&key.token("k1", &issuer.claims(ANA))).get("/v1/me").await.expect(200);
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn while_the_issuer_is_away_nobody_can_tell_and_the_answer_says_so() {
    let key = SigningKey::es256();
    let issuer = Issuer::start(vec![]).await;
    for away in [
        Published::Status(500),
        Published::Status(302),
        Published::Text("<html>be right back</html>".to_owned()),
        Published::Text(format!("{{\"keys\": [\"{}\"]}}", "x".repeat(65 << 10))),
    ] {
        issuer.publish(away).await;
        let auth = issuer.settings(Some(SECRET));
        let server = TestServer::start_with(|options| options.config.auth = auth).await;
        let answer = server.with(&key.token("k1", &issuer.claims(ANA))).get("/v1/me").await;
        answer.expect_problem(503, "KEYS_UNAVAILABLE");
        assert_eq!(answer.headers["retry-after"], "5");
        // What needs no keys goes on.
        let secret = SigningKey::secret(SECRET.as_bytes());
        server.with(&secret.token("s", &issuer.claims(ANA))).get("/v1/me").await.expect(200);
        server.user("ben").await.get("/v1/me").await.expect(200);
        server.with("no.such.token").get("/v1/me").await.expect_problem(401, "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_token_does_that_it_was_asked_for_with() {
    let world = World::new(SigningKey::es256()).await;
    // Good for a second yet, with the leeway.
    let token = world.token(json!({"exp": now() - 28}));
    let asker = world.server.with(&token);
    asker.post("/v1/projects/whales/lock", json!({})).await.expect(201);
    let stream = asker.request(Method::GET, "/v1/events").header("last-event-id", "0").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let text = tokio::time::timeout(support::LONG_ENOUGH, stream.text()).await.expect("the stream goes on").unwrap();
    assert!(text.contains("event:granted") || text.contains("event: granted"), "{text}");
    assert_eq!(world.refused(&token).await, "the token has expired; sign in again, or have it refreshed");
}
