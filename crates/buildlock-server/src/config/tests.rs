//! What a file says, and what is said of one that is wrong.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/buildlock/buildlock.toml"), text).map_err(|error| error.to_string())
}

fn wrong(text: &str) -> String {
    let error = parse(text).unwrap_err();
    error.strip_prefix("/etc/buildlock/buildlock.toml:").unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn an_empty_file_has_the_settings_of_none() {
    assert_eq!(parse("").unwrap(), Config::without_file(Path::new("/etc/buildlock")));
}

#[test]
fn all_can_be_set() {
    let config = parse(
        r#"
        [server]
        listen = "0.0.0.0:80"
        allowed_hosts = ["Builds.example.com"]
        allowed_origins = ["https://app.example.com"]
        drain_time = "2m"
        max_connections = 500
        [builds]
        workspaces = "../sites"
        keep_for = "7d"
        keep_bytes = "1GiB"
        log_line_limit = 1024
        log_limit = "2MiB"
        max_running = 3
        [sites]
        folder = "site"
        [operations.generate]
        command = ["./generate.sh", "--fast"]
        ttl = "10s"
        time_limit = "1h"
        cancel_grace = "0s"
        env = { COLOUR = "blue" }
        pass_env = ["MODEL_KEY"]
        [operations.edit]
        upstream = "http://127.0.0.1:3000/api/edit"
        "#,
    )
    .unwrap();
    assert_eq!(config.server.allowed_hosts, ["builds.example.com"]);
    assert_eq!(config.server.drain_time, Duration::from_secs(120));
    let builds = &config.builds;
    assert_eq!(builds.workspaces.as_deref(), Some(Path::new("/etc/buildlock/../sites")));
    assert_eq!(builds.retention, BuildRetention { max_age: Some(7 * DAY), max_bytes: Some(1 << 30) });
    assert_eq!((builds.log_line_limit, builds.log_limit, builds.max_running), (1024, 2 << 20, 3));
    let operation = |name: &str| config.operations[&name.parse::<Operation>().unwrap()].clone();
    let generate = operation("generate");
    assert_eq!(generate.ttl.get(), Duration::from_secs(10));
    assert_eq!((generate.time_limit, generate.cancel_grace), (Duration::from_secs(3_600), Duration::ZERO));
    let Builder::Command(command) = generate.builder else { panic!() };
    assert_eq!(command.program, Path::new("/etc/buildlock/./generate.sh"));
    assert_eq!((command.arguments, command.pass_env), (vec!["--fast".to_owned()], vec!["MODEL_KEY".to_owned()]));
    let Builder::Upstream(url) = operation("edit").builder else { panic!() };
    assert_eq!(url.as_str(), "http://127.0.0.1:3000/api/edit");
}

#[test]
fn a_name_without_a_slash_is_looked_for_in_path() {
    let config = parse("[operations.build]\ncommand = [\"make\"]").unwrap();
    let Builder::Command(command) = config.operations.into_values().next().unwrap().builder else { panic!() };
    assert_eq!(command.program, Path::new("make"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_what_may_be_meant() {
    assert_eq!(
        wrong("\n[operations.generate]\ncomand = [\"sh\"]\n"),
        r#"3: unknown key "comand" in [operations.generate]; did you mean "command"?"#
    );
    assert_eq!(wrong("[sever]\n"), r#"1: unknown key "sever"; did you mean "server"?"#);
    assert_eq!(
        wrong("[server]\ncolour = 1"),
        r#"2: unknown key "colour" in [server]; known: listen, allowed_hosts, allowed_origins, drain_time, max_connections"#
    );
}

#[test]
fn a_value_that_cannot_be_is_refused_with_what_is_allowed() {
    for (text, problem) in [
        (
            "[server]\nlisten = \"here\"",
            r#"2: "listen" in [server] is "here"; allowed: an address and a port, such as "127.0.0.1:7878""#,
        ),
        (
            "[server]\nallowed_hosts = [\"http://x\"]",
            r#"2: "allowed_hosts" in [server] has "http://x"; allowed: host names, such as "builds.example.com""#,
        ),
        (
            "[server]\nallowed_origins = [\"https://x/y\"]",
            r#"2: "allowed_origins" in [server] has "https://x/y"; allowed: web origins, such as "https://app.example.com""#,
        ),
        ("[server]\nmax_connections = 0", r#"2: "max_connections" in [server] is 0; allowed: 1 to 1000000"#),
        ("[builds]\nlog_limit = 0", r#"2: "log_limit" in [builds] is 0; allowed: 1KiB to 1024GiB"#),
        (
            "[builds]\nlog_line_limit = \"1 line\"",
            r#"2: "log_line_limit" in [builds] is "1 line"; allowed: 80 bytes to 1MiB"#,
        ),
        ("[builds]\nworkspaces = \"\"", r#"2: "workspaces" in [builds] is empty; name a folder"#),
        (
            "[builds]\nkeep_for = 30",
            r#"2: "keep_for" in [builds] is of type integer; it must be a duration, such as "30s" or "10m""#,
        ),
        ("builds = 1", r#"1: "builds" is of type integer; it must be a table"#),
        ("[operations]\ngenerate = 1", r#"2: "generate" in [operations] is of type integer; it must be a table"#),
        ("[operations.x]", r#"1: [operations.x] has no builder; give it a "command" or an "upstream""#),
        (
            "[operations.x]\ncommand = []",
            r#"1: "command" in [operations.x] is empty; name a program, such as ["sh", "generate.sh"]"#,
        ),
        (
            "[operations.x]\ncommand = [\"\"]",
            r#"1: "command" in [operations.x] is empty; name a program, such as ["sh", "generate.sh"]"#,
        ),
        (
            "[operations.x]\ncommand = \"sh\"",
            r#"2: "command" in [operations.x] is of type string; it must be a list of texts, such as ["sh", "generate.sh"]"#,
        ),
        (
            "[operations.x]\ncommand = [\"a\"]\ntime_limit = \"0s\"",
            r#"3: "time_limit" in [operations.x] is "0s"; allowed: 1s to 24h"#,
        ),
        (
            "[operations.x]\ncommand = [\"a\"]\nttl = \"25h\"",
            r#"3: "ttl" in [operations.x] is "25h"; allowed: 1s to 24h"#,
        ),
        (
            "[operations.x]\ncommand = [\"a\"]\nupstream = \"http://x/\"",
            r#"3: "upstream" in [operations.x] stands beside "command"; one of them builds"#,
        ),
        (
            "[operations.x]\nupstream = \"http://x/\"\npass_env = []",
            r#"2: "upstream" in [operations.x] has no environment; env and pass_env go with command"#,
        ),
        (
            "[operations.x]\nupstream = \"ftp://x/\"",
            r#"2: "upstream" in [operations.x] is "ftp://x/", which is not http; allowed: a URL such as "http://127.0.0.1:3000/api/generate""#,
        ),
        (
            "[operations.x]\ncommand = [\"a\"]\nenv = { BUILDLOCK_TOKEN = \"1\" }",
            r#"3: "BUILDLOCK_TOKEN" in [operations.x] is for buildlock to set; choose another name"#,
        ),
        (
            "[operations.\"\"]\ncommand = [\"a\"]",
            "1: operation is empty; allowed: 1 to 64 bytes of UTF-8 without control characters",
        ),
    ] {
        assert_eq!(wrong(text), problem, "{text}");
    }
    assert!(wrong("[operations.x]\nupstream = \"nowhere\"").contains("is \"nowhere\", which is no URL ("));
    // A password is not repeated where it would end up in a log.
    assert!(!wrong("[operations.x]\nupstream = \"http://u:secret@x/\"").contains("secret"));
    assert!(wrong("[server\n").starts_with("1: "));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/no/such/buildlock.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /no/such/buildlock.toml: "), "{error}");
}

fn environment(text: &str, variables: &[(&str, &str)]) -> Result<JwtConfig, String> {
    let mut auth = parse(text)?.auth;
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    auth.add_environment(variable).map_err(|error| error.to_string())?;
    Ok(auth.jwt)
}

fn jwks_url(jwt: &JwtConfig) -> &str {
    let Some(Jwks::Url(url)) = &jwt.jwks else { panic!("{jwt:?}") };
    url.as_str()
}

const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

#[test]
fn the_issuer_of_tokens_is_set_with_what_its_tokens_mean() {
    let text = r#"
        [auth.jwt]
        issuer = "https://abc.supabase.co/auth/v1"
        secret_env = "JWT_SECRET"
        audience = "builds"
        operator_claim = "roles"
        operator_value = "admin"
    "#;
    let jwt = environment(text, &[("JWT_SECRET", SECRET), ("SUPABASE_URL", "https://other.supabase.co")]).unwrap();
    assert_eq!(jwt.issuer.as_deref(), Some("https://abc.supabase.co/auth/v1"));
    assert_eq!(jwks_url(&jwt), "https://abc.supabase.co/auth/v1/.well-known/jwks.json");
    assert_eq!(jwt.secret, JwtSecret::new(SECRET));
    assert_eq!(
        (jwt.audience.as_str(), jwt.operator_claim.as_str(), jwt.operator_value.as_str()),
        ("builds", "roles", "admin")
    );
    assert!(!format!("{jwt:?}").contains("super-secret"));

    let elsewhere = "[auth.jwt]\nissuer = \"http://127.0.0.1:54321/auth/v1\"\njwks_url = \"http://kong:8000/keys\"";
    let jwt = environment(elsewhere, &[("SUPABASE_JWT_SECRET", SECRET)]).unwrap();
    assert_eq!((jwks_url(&jwt), &jwt.secret), ("http://kong:8000/keys", &None));
    assert_eq!(jwt.operator_claim, "buildlock_role");
}

#[test]
fn where_no_issuer_is_set_supabases_variables_say_who_it_is() {
    let hosted =
        environment("", &[("SUPABASE_URL", "https://abc.supabase.co/"), ("SUPABASE_JWT_SECRET", SECRET)]).unwrap();
    assert_eq!(hosted.issuer.as_deref(), Some("https://abc.supabase.co/auth/v1"));
    assert_eq!(jwks_url(&hosted), "https://abc.supabase.co/auth/v1/.well-known/jwks.json");
    assert!(hosted.secret.is_some());

    let by_keys = ("SUPABASE_JWKS_URL", "https://abc.supabase.co/auth/v1/.well-known/jwks.json");
    let jwt = environment("", &[by_keys]).unwrap();
    assert_eq!((jwt.issuer.as_deref(), jwks_url(&jwt)), (Some("https://abc.supabase.co/auth/v1"), by_keys.1));

    let inline = [("SUPABASE_URL", "http://127.0.0.1:54321"), by_keys, ("SUPABASE_JWKS", "{\"keys\": []}")];
    let jwt = environment("[auth.jwt]\naudience = \"builds\"", &inline).unwrap();
    assert_eq!(jwt.issuer.as_deref(), Some("http://127.0.0.1:54321/auth/v1"));
    assert_eq!(jwt.jwks, Some(Jwks::Inline("{\"keys\": []}".to_owned())));
    assert_eq!((jwt.audience.as_str(), jwt.secret), ("builds", None));

    assert_eq!(environment("", &[("SUPABASE_URL", " ")]).unwrap(), JwtConfig::default());
}

#[test]
fn tokens_that_nobody_could_check_are_refused_when_the_settings_are_read() {
    for (text, problem) in [
        (
            "[auth.jwt]\njwks_url = \"https://abc.supabase.co/keys\"",
            r#"1: "jwks_url" in [auth.jwt] says where keys are, and no "issuer" says whose; set it as well"#,
        ),
        (
            "[auth.jwt]\nsecret_env = \"S\"",
            r#"1: "secret_env" in [auth.jwt] names a secret, and no "issuer" says whose; set it as well"#,
        ),
        (
            "[auth.jwt]\nissuer = \"our sign-in\"",
            r#"1: "issuer" in [auth.jwt] is no URL where keys would be found; set "jwks_url" or "secret_env" as well"#,
        ),
        ("[auth.jwt]\naudience = \"\"", r#"2: "audience" in [auth.jwt] is empty; leave it out"#),
        (
            "[auth.jwt]\nissuer = \"a\"\njwks_url = \"file:///etc/keys\"",
            r#"3: "jwks_url" in [auth.jwt] is not http; allowed: a URL such as "https://project.supabase.co""#,
        ),
        ("[auth.jwt]\nsecret = \"hush\"", r#"2: unknown key "secret" in [auth.jwt]; did you mean "secret_env"?"#),
    ] {
        assert_eq!(wrong(text), problem, "{text}");
    }
    for (text, variables, problem) in [
        ("", ("SUPABASE_JWT_SECRET", SECRET), "is set, and nothing says whose tokens these are"),
        ("", ("SUPABASE_JWKS", "{\"keys\": []}"), "is set, and nothing says whose tokens these are"),
        ("", ("SUPABASE_JWKS_URL", "https://abc.supabase.co/keys"), "is set, and nothing says whose tokens these are"),
        ("", ("SUPABASE_JWKS", "keys"), "it is no set of keys"),
        ("", ("SUPABASE_URL", "abc.supabase.co"), "is no URL"),
        ("", ("SUPABASE_URL", "https://u:secret@abc.supabase.co"), "has a user or a password in it"),
        ("[auth.jwt]\nissuer = \"us\"\nsecret_env = \"S\"", ("T", ""), "is not set"),
        ("[auth.jwt]\nissuer = \"us\"\nsecret_env = \"S\"", ("S", "hush"), "is too short to be a secret"),
    ] {
        let error = environment(text, &[variables]).unwrap_err();
        assert!(error.starts_with("the environment variable S") && error.contains(problem), "{error}");
        assert!(!error.contains("hush") && !error.contains("u:secret"), "{error}");
    }
}
