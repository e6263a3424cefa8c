//! Builds that a real server runs: what a builder is given, what its caller is told, and what becomes of
//! builders that do not do as they should.

#[path = "support/server.rs"]
mod server;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use reqwest::Method;
use serde_json::json;
use server::{Events, Script, Server, json_of, toml_text};
use support::Sandbox;

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_gets_its_request_and_what_it_must_know() {
    let sandbox = Sandbox::new();
    let script = "
        cat; echo
        pwd
        env | sort | cut -d= -f1 | tr '\\n' ' '
        echo
        echo \"$BUILDLOCK_PROJECT $BUILDLOCK_OPERATION $BUILDLOCK_HOLDER $BUILDLOCK_BUILD\" >&2
        cd \"$BUILDLOCK_WORKSPACE\" && pwd";
    let server = Server::with_scripts(&sandbox, &[Script("generate", script, "env = { COLOUR = \"blue\" }")]);
    let body = json!({"projectId": "../a b", "prompt": "a page", "size": {"pages": 3}});
    let answer = server.request(Method::POST, "/api/generate").json(&body).send().await.unwrap();
    let id = answer.headers()["buildlock-build"].to_str().unwrap().to_owned();
    let build = json_of(answer, 200).await;
    assert_eq!(build["id"], id.as_str());
    assert_eq!((build["status"].as_str(), build["exitCode"].as_i64()), (Some("succeeded"), Some(0)));
    assert_eq!((&build["project"], &build["operation"]), (&json!("../a b"), &json!("generate")));

    let mut lines = [Vec::new(), Vec::new(), Vec::new()];
    let mut events = Events::of(server.follow(&id, 0).await);
    while let Some((name, line)) = events.next().await {
        if name == "line" {
            let stream = ["stdout", "stderr", "system"].iter().position(|name| line["stream"] == *name).unwrap();
            lines[stream].push(line["text"].as_str().unwrap().to_owned());
        }
    }
    let [stdout, stderr, system] = lines;
    let request: serde_json::Value = serde_json::from_str(&stdout[0]).unwrap();
    let expected = json!({"projectId": "../a b", "prompt": "a page", "size": {"pages": 3}, "operation": "generate"});
    assert_eq!(request, expected);
    assert_eq!(fs::canonicalize(&stdout[1]).unwrap(), fs::canonicalize(sandbox.path()).unwrap());
    for name in ["BUILDLOCK_TOKEN", "BUILDLOCK_EXPIRES_AT", "COLOUR", "PATH", "HOME", "TEST_MARK"] {
        assert!(stdout[2].split(' ').any(|known| known == name), "{name} in {}", stdout[2]);
    }
    for name in ["BUILDLOCK_STORE", "BUILDLOCK_API_KEY", "BUILDLOCK_SUPERVISE"] {
        assert!(!stdout[2].split(' ').any(|known| known == name), "{name} in {}", stdout[2]);
    }
    let holder = build["holder"].as_str().unwrap();
    assert_eq!(stderr, [format!("../a b generate {holder} {id}")]);
    assert!(fs::canonicalize(&stdout[3]).unwrap().starts_with(fs::canonicalize(sandbox.path()).unwrap()));
    assert!(stdout[3].rsplit('/').next().unwrap().starts_with("a-b-"), "{}", stdout[3]);
    assert!(system.is_empty(), "{system:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_at_the_end_at_once_or_with_the_log_before_it() {
    let sandbox = Sandbox::new();
    let script = "echo one; echo two >&2; until [ -e go ]; do sleep 0.01; done; echo three";
    let server = Server::with_scripts(&sandbox, &[Script("generate", script, "")]);
    let answer = server.order("p", "generate").header("prefer", "respond-async").send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["preference-applied"], "respond-async");
    let build = json_of(answer, 202).await;
    let id = build["id"].as_str().unwrap();
    assert_eq!((build["status"].as_str(), location.as_str()), (Some("running"), format!("/v1/builds/{id}").as_str()));
    server.await_line(id, "one").await;
    assert_eq!(server.get(&location).await["status"], "running");

    fs::write(sandbox.path().join("go"), "").unwrap();
    assert_eq!(server.ended(id).await["status"], "succeeded");
    assert_eq!(server.log(id).await.lines().filter(|line| ["one", "two", "three"].contains(line)).count(), 3);

    let answer = server.order("p", "generate").header("accept", "text/event-stream").send().await.unwrap();
    let mut events = Events::of(answer);
    let mut names = Vec::new();
    while let Some((name, data)) = events.next().await {
        names.push(name.clone());
        if name == "end" {
            assert_eq!(data["status"], "succeeded");
        }
    }
    assert_eq!(names, ["build", "line", "line", "line", "end"]);
    let list = server.get("/v1/builds?project=p").await;
    assert_eq!(list["builds"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_resumed_after_the_last_line_that_was_seen() {
    let sandbox = Sandbox::new();
    let server = Server::with_scripts(&sandbox, &[Script("generate", "seq 200", "")]);
    let (_, build) = server.build("p", "generate").await;
    let id = build["id"].as_str().unwrap();
    assert_eq!(build["logLines"], 200);
    let path = format!("/v1/builds/{id}/log");
    let request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    let mut events = Events::of(request.header("last-event-id", "197").send().await.unwrap());
    let mut seen = Vec::new();
    while let Some((name, data)) = events.next().await {
        seen.push(if name == "line" { data["text"].as_str().unwrap().to_owned() } else { name });
    }
    assert_eq!(seen, ["198", "199", "200", "end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_project_is_refused_or_waited_for() {
    let sandbox = Sandbox::new();
    let script = "until [ -e go ]; do sleep 0.01; done";
    let server = Server::with_scripts(&sandbox, &[Script("generate", script, ""), Script("edit", "echo done", "")]);
    let first = server.begin("p", "generate").await;
    let body = json!({"projectId": "p", "prompt": "x"});
    let answer = server.request(Method::POST, "/api/edit").json(&body).send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    let refused = json_of(answer, 409).await;
    assert_eq!((&refused["code"], &refused["lock"]["operation"]), (&json!("PROJECT_LOCKED"), &json!("generate")));

    let second = tokio::spawn(server.order("p", "edit").send());
    support::await_that("the second waits", || sandbox.status("p")["queue"].as_array().unwrap().len() == 1);
    fs::write(sandbox.path().join("go"), "").unwrap();
    let second = json_of(second.await.unwrap().unwrap(), 200).await;
    assert_eq!(second["status"], "succeeded");
    let first = server.ended(&first).await;
    let time = |text: &serde_json::Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(&first["endedAt"]) <= time(&second["startedAt"]), "{first} {second}");
    // Another project is never in the way.
    assert_eq!(server.build("other", "edit").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_does_not_end_the_build_and_a_repeated_request_gives_the_same() {
    let sandbox = Sandbox::new();
    let script = "echo ready; until [ -e go ]; do sleep 0.01; done; date +%N >> ran";
    let server = Server::with_scripts(&sandbox, &[Script("generate", script, "")]);
    let order = || server.order("p", "generate").header("idempotency-key", "my key");
    let gone = tokio::spawn(order().send());
    support::await_that("the build runs", || !sandbox.status("p")["lease"].is_null());
    gone.abort();
    let again = json_of(order().header("prefer", "respond-async").send().await.unwrap(), 202).await;
    fs::write(sandbox.path().join("go"), "").unwrap();
    let answer = json_of(order().send().await.unwrap(), 200).await;
    assert_eq!((&answer["id"], answer["status"].as_str()), (&again["id"], Some("succeeded")));
    assert_eq!(fs::read_to_string(sandbox.path().join("ran")).unwrap().lines().count(), 1);
    let other = server.order("q", "generate").header("idempotency-key", "my key").send().await.unwrap();
    let other = json_of(other, 422).await;
    assert_eq!((&other["code"], &other["field"]), (&json!("INVALID_REQUEST"), &json!("Idempotency-Key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_orders_are_refused_and_name_what_is_wrong() {
    let sandbox = Sandbox::new();
    let server = Server::with_scripts(&sandbox, &[Script("generate", "true", ""), Script("edit", "true", "")]);
    for (path, body, field) in [
        ("/api/generate", json!({"prompt": "x"}), "projectId"),
        ("/api/generate", json!({"projectId": 7}), "projectId"),
        ("/api/generate", json!({"projectId": ""}), "projectId"),
        ("/api/generate", json!({"projectId": "p", "operation": "edit"}), "operation"),
        ("/api/generate", json!({"projectId": "p", "wait": "long"}), "wait"),
        ("/api/generate", json!({"projectId": "p", "wait": 3601}), "wait"),
        ("/api/generate", json!({"projectId": "p", "wait": -1}), "wait"),
        ("/api/generate", json!({"projectId": "p", "message": "x".repeat(501)}), "message"),
        ("/v1/builds", json!({"projectId": "p"}), "operation"),
        ("/v1/builds", json!({"projectId": "p", "operation": "deploy"}), "operation"),
    ] {
        let answer = server.request(Method::POST, path).json(&body).send().await.unwrap();
        let problem = json_of(answer, 422).await;
        assert_eq!((&problem["code"], &problem["field"]), (&json!("INVALID_REQUEST"), &json!(field)), "{body}");
    }
    let answer = server.order("p", "deploy").send().await.unwrap();
    let detail = json_of(answer, 422).await["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "no builder is set for \"deploy\"; known: edit, generate");
    for path in
        ["/v1/builds/0190d6a0-0000-7000-8000-000000000001", "/v1/builds/0190d6a0-0000-7000-8000-000000000001/log"]
    {
        let answer = server.request(Method::GET, path).send().await.unwrap();
        assert_eq!(json_of(answer, 404).await["code"], "BUILD_NOT_FOUND");
    }
    let answer = server.request(Method::GET, "/v1/builds/7").send().await.unwrap();
    assert_eq!(json_of(answer, 422).await["field"], "build");
    // None of it has made a project.
    assert!(sandbox.ok(&["projects", "--json"]).trim() == "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_project_s_owner_a_service_and_an_operator_see_a_build() {
    let sandbox = Sandbox::new();
    let server = Server::with_scripts(&sandbox, &[Script("generate", "true", "")]);
    let key = |arguments: &[&str]| -> String {
        let added = sandbox.ok(&[&["keys", "add", "--json"], arguments].concat());
        let added: serde_json::Value = serde_json::from_str(&added).unwrap();
        added["key"].as_str().unwrap().to_owned()
    };
    let [ana, ben] = [key(&["ana"]), key(&["ben"])];
    let platform = key(&["platform", "--role", "service"]);
    let body = json!({"projectId": "ana's"});
    let order = |key: &str| server.request_of(key, Method::POST, "/api/generate").json(&body).send();
    let build = json_of(order(&ana).await.unwrap(), 200).await;
    assert_eq!(build["holder"], "ana");
    assert_eq!(json_of(order(&ben).await.unwrap(), 404).await["code"], "PROJECT_NOT_FOUND");
    let path = format!("/v1/builds/{}", build["id"].as_str().unwrap());
    for (method, path) in
        [(Method::GET, path.clone()), (Method::GET, format!("{path}/log")), (Method::POST, format!("{path}/cancel"))]
    {
        let ask = |key: &str| server.request_of(key, method.clone(), &path).send();
        for key in [&ana, &platform] {
            assert_eq!(ask(key).await.unwrap().status(), 200, "{path}");
        }
        assert_eq!(json_of(ask(&ben).await.unwrap(), 404).await["code"], "BUILD_NOT_FOUND");
    }
    let list = |key: &str, query: &str| server.request_of(key, Method::GET, &format!("/v1/builds{query}")).send();
    assert_eq!(list(&ben, "?project=ana%27s").await.unwrap().status(), 404);
    assert_eq!(list(&ben, "").await.unwrap().status(), 422);
    assert_eq!(json_of(list(&platform, "").await.unwrap(), 200).await["builds"].as_array().unwrap().len(), 1);
}

/// What a builder does, and what its caller is told: status, exit code, reason.
async fn failure(server: &Server, operation: &str) -> (String, Option<i64>, String, Vec<String>) {
    let (status, problem) = server.build("p", operation).await;
    assert_eq!((status, &problem["code"]), (502, &json!("BUILD_FAILED")), "{problem}");
    let tail = problem["logTail"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect();
    let build = &problem["build"];
    assert_eq!(problem["detail"], build["reason"]);
    let reason = build["reason"].as_str().unwrap().to_owned();
    (build["status"].as_str().unwrap().to_owned(), build["exitCode"].as_i64(), reason, tail)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_fails_is_told_of_with_its_exit_code_and_the_end_of_its_log() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path().join("plain.txt"), "no program").unwrap();
    fs::set_permissions(sandbox.path().join("plain.txt"), fs::Permissions::from_mode(0o644)).unwrap();
    let scripts = [("code", "seq 30; exit 3"), ("signal", "kill -9 $$")];
    let mut settings = String::new();
    for (name, script) in scripts {
        settings.push_str(&format!("[operations.{name}]\ncommand = [\"bash\", \"-c\", {}]\n", toml_text(script)));
    }
    settings.push_str("[operations.missing]\ncommand = [\"no-such-program\"]\n");
    settings.push_str("[operations.plain]\ncommand = [\"./plain.txt\"]\n");
    let server = Server::with_settings(&sandbox, &settings);

    let (status, code, reason, tail) = failure(&server, "code").await;
    assert_eq!((status.as_str(), code), ("failed", Some(3)));
    assert_eq!(reason, "the builder ended with exit code 3");
    assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (20, "12", "the builder ended with exit code 3"));

    let (_, code, reason, _) = failure(&server, "signal").await;
    assert_eq!((code, reason.as_str()), (Some(137), "the builder ended with exit code 137, as if by signal 9"));
    let (_, code, reason, _) = failure(&server, "missing").await;
    assert_eq!((code, reason.as_str()), (Some(127), "cannot find the command no-such-program"));
    let (_, code, reason, _) = failure(&server, "plain").await;
    assert_eq!(code, Some(126));
    assert!(reason.starts_with("cannot execute the command ") && reason.contains("plain.txt: "), "{reason}");
    // None of them keeps the project.
    assert_eq!(sandbox.status("p")["buildStatus"], "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_never_ends_or_ignores_sigterm_is_stopped_at_its_time_limit() {
    let sandbox = Sandbox::new();
    let limits = "time_limit = \"1s\"\ncancel_grace = \"1s\"";
    let server = Server::with_scripts(
        &sandbox,
        &[
            Script("endless", "echo begun; exec sleep 1000", limits),
            Script("deaf", "trap '' TERM; echo begun; while :; do sleep 1000; done", limits),
        ],
    );
    let (status, code, reason, tail) = failure(&server, "endless").await;
    assert_eq!(
        (status.as_str(), code, reason.as_str()),
        ("failed", Some(143), "it took longer than its time limit of 1 s")
    );
    assert_eq!(tail[0], "begun");
    assert!(tail[1].starts_with("stopped: sleep ("), "{tail:?}");
    let (status, code, ..) = failure(&server, "deaf").await;
    assert_eq!((status.as_str(), code), ("failed", Some(137)));
    assert_eq!(sandbox.processes(), [server.pid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_forks_away_is_ended_with_all_that_it_has_left() {
    let sandbox = Sandbox::new();
    let away = "setsid bash -c '(trap \"\" HUP; setsid sleep 1000 &) ; exit' & wait; sleep 1000 & echo gone";
    let server = Server::with_scripts(&sandbox, &[Script("generate", away, "")]);
    let (status, build) = server.build("p", "generate").await;
    assert_eq!((status, build["status"].as_str()), (200, Some("succeeded")));
    let log = server.log(build["id"].as_str().unwrap()).await;
    // Either may be seen as the `bash` or `setsid` that is about to become `sleep`.
    let stopped =
        log.lines().find_map(|line| line.strip_prefix("buildlock: the builder left processes behind; stopped: "));
    assert!(log.contains("gone\n"), "{log}");
    assert_eq!(stopped.map(|stopped| stopped.matches(" (").count()), Some(2), "{log}");
    assert_eq!(sandbox.processes(), [server.pid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_need_not_read_its_request() {
    let sandbox = Sandbox::new();
    let server = Server::with_scripts(&sandbox, &[Script("generate", "exec <&-; sleep 0.1; echo done", "")]);
    // More than a pipe holds.
    let body = json!({"projectId": "p", "prompt": "x".repeat(500_000)});
    let answer = server.request(Method::POST, "/api/generate").json(&body).send().await.unwrap();
    assert_eq!(json_of(answer, 200).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_builder_prints_is_made_text_and_bounded() {
    let sandbox = Sandbox::new();
    let odd = r"printf 'a\xff\x00b\n\xc3\xa9'; printf '\n'; head -c 1000000 /dev/zero | tr '\0' x; echo; echo last";
    let flood = "yes 'a line of a flood, over and over again' | head -n 200000; echo end >&2; exit 0";
    let mut settings = "[builds]\nlog_line_limit = \"16KiB\"\nlog_limit = \"1MiB\"\n".to_owned();
    for (name, script) in [("odd", odd), ("flood", flood)] {
        settings.push_str(&format!("[operations.{name}]\ncommand = [\"bash\", \"-c\", {}]\n", toml_text(script)));
    }
    let server = Server::with_settings(&sandbox, &settings);
    let (_, build) = server.build("p", "odd").await;
    let log = server.log(build["id"].as_str().unwrap()).await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3], lines.len()), (r"a\xff\x00b", "é", "last", 4));
    assert_eq!(lines[2], format!("{} … [{} bytes more]", "x".repeat(16_384), 1_000_000 - 16_384));

    let (status, build) = server.build("p", "flood").await;
    assert_eq!((status, build["status"].as_str()), (200, Some("succeeded")));
    let log = server.log(build["id"].as_str().unwrap()).await;
    assert!(log.len() > 1_000_000 && log.len() < 1_100_000, "{}", log.len());
    let last = "buildlock: the log has reached its limit of 1048576 bytes; what follows is not kept";
    assert_eq!(log.lines().last(), Some(last));
}
