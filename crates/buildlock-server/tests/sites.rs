//! Sites that builds have made: who gets to see one, and how it is kept away from everything else.

mod support;

use std::fs;
use std::path::Path;

use buildlock::{LockStore, ProjectId, Role};
use buildlock_server::Config;
use reqwest::Method;
use support::{Answer, TestServer};

/// A server with a site of the project `my-site`, and one of `..`, both Ana's.
async fn server_with_sites() -> TestServer {
    let server = TestServer::start_with(|options| options.config.sites.folder = Some("site".into())).await;
    for (project, workspace) in
        [("my-site", "my-site-ea5b092837a98e47c7e657353ade1de5"), ("..", "5ec1f7e700f37c3d0b2981d04855fc34")]
    {
        server.store.create_project(&ProjectId::new(project).unwrap(), &"ana".parse().unwrap()).await.unwrap();
        let workspace = server.folder.path().join("workspaces").join(workspace);
        write(&workspace.join("site/index.html"), &format!("<h1>{project}</h1>"));
        write(&workspace.join("site/style.css"), "h1 { color: green }");
        write(&workspace.join("site/about/index.html"), "about");
        write(&workspace.join("draft"), "secret");
    }
    server
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_site_is_shown_to_those_who_may_see_its_project() {
    let server = server_with_sites().await;
    for asker in [server.user("ana").await, server.asker("ops", Role::Operator).await] {
        for (query, project) in [("my-site", "my-site"), ("..", ".."), ("%2E%2E", "..")] {
            let site = asker.get(&format!("/sites?project={query}")).await;
            assert_eq!((site.status.as_u16(), site.body), (200, format!("<h1>{project}</h1>")));
            assert_eq!(site.headers["content-type"], "text/html; charset=utf-8");
        }
    }
    let ben = server.user("ben").await;
    ben.get("/sites?project=my-site").await.expect_problem(404, "PROJECT_NOT_FOUND");
    ben.get("/sites?project=none").await.expect_problem(404, "PROJECT_NOT_FOUND");
    ben.get("/sites").await.expect_problem(422, "INVALID_REQUEST");
    ben.get("/sites?project=").await.expect_problem(422, "INVALID_REQUEST");
    server.nobody().get("/sites?project=my-site").await.expect_problem(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_project_without_a_site_says_so() {
    let server = server_with_sites().await;
    let ana = server.user("ana").await;
    server.store.create_project(&"new".parse().unwrap(), &"ana".parse().unwrap()).await.unwrap();
    ana.get("/sites?project=new").await.expect_problem(404, "SITE_NOT_FOUND");

    let shows_none = TestServer::start().await;
    shows_none.store.create_project(&"my-site".parse().unwrap(), &"ana".parse().unwrap()).await.unwrap();
    let ana = shows_none.user("ana").await;
    ana.get("/sites?project=my-site").await.expect_problem(404, "SITE_NOT_FOUND");
}

#[test]
fn a_folder_that_is_not_in_the_workspace_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let read = |value: &str| {
        let file = folder.path().join("buildlock.toml");
        fs::write(&file, format!("[sites]\nfolder = {value}\n")).unwrap();
        Config::read(&file).map(|config| config.sites.folder).map_err(|error| error.to_string())
    };
    assert_eq!(read("\"dist/site\""), Ok(Some("dist/site".into())));
    for bad in ["\"\"", "\"..\"", "\"/etc\"", "\"a/../../b\"", "\"./site\"", "\"a\\u0000b\"", "3"] {
        let error = read(bad).unwrap_err();
        assert!(error.contains("buildlock.toml:2: \"folder\" in [sites] is "), "{bad}: {error}");
    }
}

/// The address to which somebody is sent who may see the site.
async fn address(server: &TestServer) -> String {
    let ana = server.user("ana").await;
    let request = ana.request(Method::GET, "/sites?project=my-site").timeout(support::LONG_ENOUGH);
    let path = request.send().await.unwrap().url().path().to_owned();
    assert!(path.starts_with("/sites/") && path.ends_with('/') && path.len() == "/sites//".len() + 32, "{path}");
    path
}

#[tokio::test]
async fn a_sites_files_need_no_cookie_and_the_browser_takes_the_site_for_a_stranger() {
    let server = server_with_sites().await;
    let site = address(&server).await;
    // As a browser asks that was told to treat it so: nobody's cookie, and no origin.
    let request = server.nobody().request(Method::GET, &format!("{site}style.css")).header("Origin", "null");
    let style = Answer::of(request).await;
    assert_eq!((style.status.as_u16(), style.body.as_str()), (200, "h1 { color: green }"));
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    assert_eq!(style.headers["cross-origin-resource-policy"], "cross-origin");
    assert_eq!(style.headers["access-control-allow-origin"], "*");
    for path in ["", "index.html", "about/", "no such page"] {
        let answer = server.nobody().get(&format!("{site}{path}")).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("sandbox ") && !policy.contains("same-origin"), "{path}: {policy}");
        assert!(!policy.contains("top-navigation"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
    }
    let head = Answer::of(server.nobody().request(Method::HEAD, &site)).await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
    // What a page names beside itself is beside it.
    let about = server.nobody().request(Method::GET, &format!("{site}about")).send().await.unwrap();
    assert_eq!((about.url().path(), about.status().as_u16()), (format!("{site}about/").as_str(), 200));
}

#[tokio::test]
async fn nothing_outside_of_the_site_is_shown() {
    let server = server_with_sites().await;
    let site = address(&server).await;
    for path in [
        "../draft",
        "%2e%2e/draft",
        "about/../../draft",
        "about/%2e%2e/%2e%2e/draft",
        "..%2fdraft",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "%00",
        "draft",
        "about/none",
        "%ff",
        ".%2e/draft",
        "..\\draft",
        "%2e",
    ] {
        // By hand: a client that thinks along would tidy the path.
        let request = format!("GET {site}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
        let answer = server.raw(request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap();
        assert!(matches!(status, "404" | "400") || (path == "%2e" && status == "303"), "{path}: {answer}");
        assert!(!answer.contains("secret") && !answer.contains("root:"), "{path}: {answer}");
    }
    let guessed = format!("/sites/{}/", "0".repeat(32));
    assert_eq!(server.nobody().get(&guessed).await.status, 404);
}
