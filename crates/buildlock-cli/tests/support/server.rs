//! A real server, `buildlock serve`, with builders of the test's own.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::{Running, Sandbox, kill};

/// Nothing that is awaited here takes nearly as long.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// A builder: a script for bash, and more settings for its operation.
pub(crate) struct Script<'a>(pub(crate) &'a str, pub(crate) &'a str, pub(crate) &'a str);

/// A server under way.
pub(crate) struct Server {
    process: Running,
    pub(crate) url: String,
    pub(crate) key: String,
    client: Client,
}

impl Server {
    /// Starts a server whose operations are these scripts.
    pub(crate) fn with_scripts(sandbox: &Sandbox, scripts: &[Script<'_>]) -> Self {
        let mut settings = String::new();
        for Script(name, script, more) in scripts {
            let script = toml_text(script);
            settings.push_str(&format!(
                "[operations.{name}]\ncommand = [\"bash\", \"-c\", {script}]\npass_env = [\"TEST_MARK\"]\n{more}\n"
            ));
        }
        Self::with_settings(sandbox, &settings)
    }

    /// Starts a server with these settings.
    pub(crate) fn with_settings(sandbox: &Sandbox, settings: &str) -> Self {
        fs::write(sandbox.path().join("buildlock.toml"), settings).unwrap();
        Self::start(sandbox)
    }

    /// Starts a server with the settings that there are.
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let mut command =
            sandbox.buildlock(&["serve", "--json", "--config", "buildlock.toml", "--listen", "127.0.0.1:0"]);
        let mut process = Running::start(&mut command);
        let serving: Value = serde_json::from_str(&process.await_line("\"url\"")).unwrap();
        let key = fs::read_to_string(serving["operatorKey"].as_str().unwrap()).unwrap().trim().to_owned();
        let client = buildlock::http_client().no_proxy().timeout(LONG_ENOUGH).build().unwrap();
        Self { process, url: serving["url"].as_str().unwrap().to_owned(), key, client }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    pub(crate) fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.signal("KILL");
        assert_eq!(self.process.end(), None);
    }

    /// Waits for its end; its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.process.end()
    }

    /// A request of the operator's.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// A request with a key of somebody's own.
    pub(crate) fn request_of(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(key)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        json_of(self.request(Method::GET, path).send().await.unwrap(), 200).await
    }

    /// An order for a build, which the caller may change before it is sent.
    pub(crate) fn order(&self, project: &str, operation: &str) -> RequestBuilder {
        let body = json!({"projectId": project, "operation": operation, "wait": 30});
        self.request(Method::POST, "/v1/builds").json(&body)
    }

    /// Has a build run to its end; the answer's status and body.
    pub(crate) async fn build(&self, project: &str, operation: &str) -> (u16, Value) {
        let answer = self.order(project, operation).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Has a build start; its id.
    pub(crate) async fn begin(&self, project: &str, operation: &str) -> String {
        let answer = self.order(project, operation).header("prefer", "respond-async").send().await.unwrap();
        json_of(answer, 202).await["id"].as_str().unwrap().to_owned()
    }

    /// Waits for a build's end by following its log; the build.
    pub(crate) async fn ended(&self, build: &str) -> Value {
        let mut events = Events::of(self.follow(build, 0).await);
        loop {
            let (name, data) = events.next().await.expect("the log ends with the build's end");
            if name == "end" {
                return data;
            }
        }
    }

    /// Waits for a line of a build's log.
    pub(crate) async fn await_line(&self, build: &str, part: &str) -> String {
        let mut events = Events::of(self.follow(build, 0).await);
        loop {
            let (name, data) = events.next().await.expect("the stream goes on");
            assert_ne!(name, "end", "the build has ended without {part:?}: {data}");
            let text = data["text"].as_str().unwrap_or_default();
            if name == "line" && text.contains(part) {
                return text.to_owned();
            }
        }
    }

    pub(crate) async fn follow(&self, build: &str, after: u64) -> Response {
        let path = format!("/v1/builds/{build}/log?after={after}");
        self.request(Method::GET, &path).header("accept", "text/event-stream").send().await.unwrap()
    }

    /// A build's log as text.
    pub(crate) async fn log(&self, build: &str) -> String {
        self.request(Method::GET, &format!("/v1/builds/{build}/log")).send().await.unwrap().text().await.unwrap()
    }
}

/// The body of an answer that must have this status.
pub(crate) async fn json_of(answer: Response, status: u16) -> Value {
    let got = answer.status().as_u16();
    let body = answer.text().await.unwrap();
    assert_eq!(got, status, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Server-sent events, as they come.
pub(crate) struct Events {
    response: Response,
    read: String,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status().as_u16(), 200);
        Self { response, read: String::new() }
    }

    /// The next event's name and data; none when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let event = field("event:").zip(field("data:"));
                let event = event.map(|(name, data)| (name.to_owned(), serde_json::from_str(data).unwrap()));
                self.read = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let more = self.response.chunk().await.ok()??;
            self.read.push_str(std::str::from_utf8(&more).unwrap());
        }
    }
}

/// A text as TOML, whatever is in it.
pub(crate) fn toml_text(text: &str) -> String {
    // What JSON escapes, TOML escapes alike.
    serde_json::to_string(text).unwrap()
}
