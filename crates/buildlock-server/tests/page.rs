//! The page as a browser gets it.

mod support;

use std::collections::BTreeSet;

use reqwest::{Method, header};
use support::{Answer, TestServer};

#[tokio::test]
async fn every_view_is_the_same_page_whatever_the_projects_id() {
    let server = TestServer::start().await;
    let nobody = server.nobody();
    let page = nobody.get("/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    for path in [
        "/build/..%7F",
        "/build/my-site",
        "/build/a%2Fb",
        "/build/a/b",
        "/build/%FF",
        "/build/%3Cb%3E%00",
        "/build/%F0%9F%8F%97",
    ] {
        let other = nobody.get(path).await;
        assert_eq!((other.status.as_u16(), &other.body), (200, &page.body), "{path}");
    }
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_files() {
    let server = TestServer::start().await;
    let nobody = server.nobody();
    let page = nobody.get("/").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
        assert!(!page.body.contains(inline), "{inline}");
    }

    // Each file that is named is there, and names only files that are there.
    let mut left: BTreeSet<String> = names(&page.body, "\"/page/");
    let mut seen = BTreeSet::new();
    while let Some(name) = left.pop_first() {
        let file = nobody.get(&format!("/page/{name}")).await;
        assert_eq!(file.status, 200, "{name}");
        let kind = file.headers["content-type"].to_str().unwrap();
        let expected = match name.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other}"),
        };
        assert_eq!(kind, expected, "{name}");
        seen.insert(name);
        let named = names(&file.body, "\"/page/").into_iter().chain(names(&file.body, "from \"./"));
        left.extend(named.filter(|name| !seen.contains(name)));
    }
    assert!(seen.contains("main.js") && seen.contains("build.js") && seen.contains("page.css"), "{seen:?}");
}

fn names(text: &str, before: &str) -> BTreeSet<String> {
    text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_the_browser_has_already_is_not_sent_again() {
    let server = TestServer::start().await;
    let nobody = server.nobody();
    let tag = nobody.get("/page/page.css").await.headers["etag"].to_str().unwrap().to_owned();
    let ask = async |known: String| {
        Answer::of(nobody.request(Method::GET, "/page/page.css").header(header::IF_NONE_MATCH, known)).await
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let answer = ask(known).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (304, ""));
        assert_eq!(answer.headers["etag"], tag.as_str());
    }
    assert_eq!(ask("\"other\"".to_owned()).await.status, 200);
}

#[tokio::test]
async fn nothing_but_the_pages_files_is_under_its_address() {
    let server = TestServer::start().await;
    for path in
        ["/page/none.js", "/page/..%2FCargo.toml", "/page/%2Fetc%2Fpasswd", "/page/a/b.js", "/page/", "/page/main"]
    {
        assert_eq!(server.nobody().get(path).await.status, 404, "{path}");
    }
}
