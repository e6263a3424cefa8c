//! Who may ask, and what a browser is not to be tricked into.

mod support;

use buildlock::{KeyStore, Role};
use reqwest::Method;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use support::{Answer, LONG_ENOUGH, TestServer};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn a_call_under_a_name_that_is_not_the_servers_is_refused() {
    let server = TestServer::start().await;
    let port = server.address.port();
    let call = async |head: String| server.raw(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await;
    for good in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")] {
        let answer = call(format!("GET /livez HTTP/1.1\r\nHost: {good}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{good}: {answer}");
    }
    for bad in [
        "GET /livez HTTP/1.1\r\nHost: evil.example".to_owned(),
        format!("GET /livez HTTP/1.1\r\nHost: evil.example:{port}"),
        "GET /livez HTTP/1.1\r\nHost: 127.0.0.1:1".to_owned(),
        "GET /livez HTTP/1.1\r\nHost:".to_owned(),
        "GET /livez HTTP/1.1\r\nAccept: */*".to_owned(),
        "GET /livez HTTP/1.0\r\nAccept: */*".to_owned(),
        format!("GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example"),
        format!("GET http://evil.example/livez HTTP/1.1\r\nHost: 127.0.0.1:{port}"),
        format!("GET http://127.0.0.1:{port}/livez HTTP/1.1\r\nHost: evil.example"),
        format!("GET / HTTP/1.1\r\nHost: evil.example:{port}"),
        format!("GET /nowhere HTTP/1.1\r\nHost: evil.example:{port}"),
    ] {
        let answer = call(bad.clone()).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.0 403 "), "{bad}: {answer}");
        assert!(answer.contains("\"code\":\"FORBIDDEN\"") && answer.contains("--allow-host"), "{bad}: {answer}");
    }
}

#[tokio::test]
async fn a_name_that_is_allowed_is_the_servers() {
    let server = TestServer::start_with(|options| {
        options.config.server.allowed_hosts.push("builds.example.com".to_owned());
    })
    .await;
    let answer = server.raw(b"GET /livez HTTP/1.1\r\nHost: builds.example.com\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_page_of_another_origin_may_change_nothing_even_with_a_key() {
    let server = TestServer::start_with(|options| {
        options.config.server.allowed_origins.push("https://app.example.com".to_owned());
    })
    .await;
    let operator = server.asker("ana", Role::Operator).await;
    let own = format!("http://{}", server.address);
    let from = async |name: &str, origin: &str| {
        Answer::of(operator.request(Method::POST, "/v1/sign-in-links").header(name, origin)).await
    };
    for foreign in ["https://evil.example", "null", "", "http://localhost", "https://app.example.com.evil.example"] {
        from("origin", foreign).await.expect_problem(403, "FORBIDDEN");
    }
    from("sec-fetch-site", "cross-site").await.expect_problem(403, "FORBIDDEN");
    from("sec-fetch-site", "same-site").await.expect_problem(403, "FORBIDDEN");
    from("origin", &own).await.expect(201);
    from("origin", "https://app.example.com").await.expect(201);
    from("sec-fetch-site", "same-origin").await.expect(201);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_what_it_is_answered_and_no_other_may() {
    let server = TestServer::start_with(|options| {
        options.config.server.allowed_origins.push("https://app.example.com".to_owned());
    })
    .await;
    let preflight = async |origin: &str| {
        let request = server.nobody().request(Method::OPTIONS, "/v1/projects/p/lock").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        Answer::of(request.header("access-control-request-headers", "authorization,idempotency-key")).await
    };
    let allowed = preflight("https://app.example.com").await;
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example.com");
    assert!(allowed.headers["access-control-allow-headers"].to_str().unwrap().contains("idempotency-key"));
    assert!(!preflight("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    let plain = TestServer::start().await.nobody().get("/livez").await;
    assert!(!plain.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_that_is_known() {
    let server = TestServer::start().await;
    let key = server.key("ana", Role::User).await;
    let shown = async |authorization: &str| {
        let request = server.nobody().request(Method::GET, "/v1/me").header("authorization", authorization);
        Answer::of(request).await
    };
    let refused = server.nobody().get("/v1/me").await;
    refused.expect_problem(401, "UNAUTHENTICATED");
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    let other = format!("Bearer {}x", &key[..key.len() - 1]);
    let longer = format!("Bearer {key}A");
    for bad in ["", "Bearer", "Bearer ", "Bearer bl_", "Basic YW5hOmFuYQ==", &key, &other, &longer, "Bearer \u{e9}"] {
        shown(bad).await.expect_problem(401, "UNAUTHENTICATED");
    }
    for good in [format!("Bearer {key}"), format!("bearer {key}")] {
        assert_eq!(shown(&good).await.expect(200)["holder"], "ana");
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_is_no_longer_known() {
    let server = TestServer::start().await;
    let ana = server.user("ana").await;
    ana.get("/v1/me").await.expect(200);
    let number = server.store.keys().await.unwrap()[0].number;
    server.store.revoke_key(number).await.unwrap();
    // A server may remember a key for a second.
    let give_up = Instant::now() + LONG_ENOUGH;
    while ana.get("/v1/me").await.status != 401 {
        assert!(Instant::now() < give_up, "the key still works");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_service_may_name_its_user_and_a_user_may_not() {
    let server = TestServer::start().await;
    let service = server.asker("platform", Role::Service).await;
    let user = server.user("ana").await;
    let named = async |asker: &support::Asker, name: &str| {
        Answer::of(asker.request(Method::GET, "/v1/me").header("buildlock-holder", name)).await
    };
    assert_eq!(service.get("/v1/me").await.expect(200)["holder"], "platform");
    assert_eq!(named(&service, "J%C3%BCrgen%20%F0%9F%8F%97").await.expect(200)["holder"], "Jürgen 🏗");
    for bad in ["", "%", "%zz", "%C3", "%0A", &"a".repeat(201)] {
        let problem = named(&service, bad).await.expect_problem(422, "INVALID_REQUEST");
        assert_eq!(problem["field"], "Buildlock-Holder", "{bad}");
    }
    named(&user, "ben").await.expect_problem(403, "FORBIDDEN");
    named(&user, "ana").await.expect_problem(403, "FORBIDDEN");
}

/// A browser, as far as it matters: it keeps a cookie.
struct Browser<'a> {
    server: &'a TestServer,
    cookie: String,
}

impl Browser<'_> {
    async fn sign_in<'a>(server: &'a TestServer, link: &str) -> (Answer, Browser<'a>) {
        let client = buildlock::http_client().redirect(Policy::none()).build().unwrap();
        let answer = Answer::of(client.get(link)).await;
        let cookie = answer.headers.get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
        (answer, Browser { server, cookie })
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request =
            self.server.nobody().request(method, path).header(COOKIE, format!("other=1; {}", self.cookie));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request).await
    }
}

#[tokio::test]
async fn a_link_signs_a_person_in_once_and_the_page_asks_for_itself_only() {
    let server = TestServer::start().await;
    let own = format!("http://{}", server.address);
    let operator = server.asker("ana", Role::Operator).await;
    let link = operator.post("/v1/sign-in-links", ().into()).await.expect(201)["url"].as_str().unwrap().to_owned();
    assert!(link.starts_with(&own), "{link}");

    let (answer, page) = Browser::sign_in(&server, &link).await;
    assert_eq!((answer.status.as_u16(), &answer.headers[LOCATION]), (303, &"/".parse().unwrap()));
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    let (again, _) = Browser::sign_in(&server, &link).await;
    assert_eq!(again.status, 403);
    assert!(again.body.contains("buildlock sign-in"), "{again:?}");

    assert_eq!(page.ask(Method::GET, "/v1/me", &[]).await.expect(200)["role"], "operator");
    page.ask(Method::GET, "/v1/me", &[("sec-fetch-site", "same-origin")]).await.expect(200);
    page.ask(Method::GET, "/v1/me", &[("sec-fetch-site", "cross-site")]).await.expect_problem(403, "FORBIDDEN");
    page.ask(Method::GET, "/v1/me", &[("origin", "https://evil.example")]).await.expect_problem(403, "FORBIDDEN");
    let change = "/v1/sign-in-links";
    page.ask(Method::POST, change, &[]).await.expect_problem(403, "FORBIDDEN");
    page.ask(Method::POST, change, &[("origin", "https://evil.example")]).await.expect_problem(403, "FORBIDDEN");
    page.ask(Method::POST, change, &[("origin", &own)]).await.expect(201);

    let out = page.ask(Method::POST, "/v1/sign-out", &[("origin", &own)]).await;
    assert_eq!(out.status, 204);
    assert!(out.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    page.ask(Method::GET, "/v1/me", &[]).await.expect_problem(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_session_ends_with_its_key() {
    let server = TestServer::start().await;
    let operator = server.asker("ana", Role::Operator).await;
    let link = operator.post("/v1/sign-in-links", ().into()).await.expect(201)["url"].as_str().unwrap().to_owned();
    let (_, page) = Browser::sign_in(&server, &link).await;
    let key = server.store.keys().await.unwrap().remove(0);
    server.store.revoke_key(key.number).await.unwrap();
    let give_up = Instant::now() + LONG_ENOUGH;
    while page.ask(Method::GET, "/v1/me", &[]).await.status != 401 {
        assert!(Instant::now() < give_up, "the session still works");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn only_an_operator_makes_links() {
    let server = TestServer::start().await;
    for role in [Role::User, Role::Service] {
        let asker = server.asker("ana", role).await;
        asker.post("/v1/sign-in-links", ().into()).await.expect_problem(403, "FORBIDDEN");
    }
    let invented = server.nobody().get("/sign-in?code=bl_invented").await;
    assert_eq!(invented.status, 403);
    server.nobody().get("/sign-in").await.expect_problem(422, "INVALID_REQUEST");
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let server = TestServer::start().await;
    for path in ["/", "/livez", "/v1/me", "/nowhere", "/openapi.json"] {
        let headers = server.nobody().get(path).await.headers;
        assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin", "{path}");
        assert!(headers.contains_key("referrer-policy") && headers.contains_key("cache-control"), "{path}");
    }
}

#[tokio::test]
async fn metrics_are_the_operators_where_others_reach_the_server() {
    let server = TestServer::start().await;
    let metrics = server.nobody().get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("buildlock_locks_held ") && metrics.body.contains("buildlock_build_info{version="));

    let public = TestServer::start_with(|options| {
        options.config.server.allowed_hosts.push("builds.example.com".to_owned());
    })
    .await;
    public.nobody().get("/metrics").await.expect_problem(401, "UNAUTHENTICATED");
    public.user("ana").await.get("/metrics").await.expect_problem(403, "FORBIDDEN");
    assert_eq!(public.asker("root", Role::Operator).await.get("/metrics").await.status, 200);
}
