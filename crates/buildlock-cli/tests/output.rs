//! What the command prints, pinned. `[..]` stands for what differs from run to run: times and paths.

mod support;

use std::fs;

use snapbox::{assert_data_eq, str};
use support::Sandbox;

/// Standard output and standard error, one after the other, and the exit code.
fn said(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let output = sandbox.run(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    format!("{}{}exit code {}\n", text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// Ana holds my-site, for five minutes.
fn held() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok(&["lock", "my-site", "--operation", "edit", "--message", "new header", "--ttl", "5m"]);
    sandbox
}

#[test]
fn lock_prints_the_token_and_says_until_when() {
    let sandbox = Sandbox::new();
    assert_data_eq!(
        said(&sandbox, &["lock", "my-site"]),
        str![[r#"
1
"my-site" is yours until [..] UTC, unless renewed
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["-q", "renew", "my-site", "--token", "1", "--ttl", "1m"]),
        str![[r#"
1
exit code 0

"#]]
    );
}

#[test]
fn a_locked_project_says_who_what_since_when_until_when_and_what_to_do() {
    assert_data_eq!(
        said(&held(), &["run", "my-site", "--", "true"]),
        str![[r#"
buildlock: "my-site" is locked

  Project:   my-site
  Holder:    ana@laptop
  Operation: edit
  Message:   new header
  Since:     [..] UTC
  Until:     [..] UTC, unless renewed
  Token:     1
  Waiting:   0

Wait for your turn:  [..]buildlock run my-site --wait 10m -- true
See how it goes on:  [..]buildlock status my-site --watch
If it is stuck:      [..]buildlock force-unlock my-site --token 1 --reason "…"
exit code 75

"#]]
    );
}

#[test]
fn a_locked_project_in_json() {
    assert_data_eq!(
        said(&held(), &["lock", "my-site", "--json"]),
        str![[r#"
{"code":"PROJECT_LOCKED","detail":"/"my-site/" is locked","project":"my-site","lock":{"token":1,"holder":"ana@laptop","operation":"edit","message":"new header","lockedAt":"[..]Z","expiresAt":"[..]Z","queueLength":0}}
exit code 75

"#]]
    );
}

/// All of it, and waiting; what it said of how long to wait is said anew.
#[test]
fn the_next_command_is_the_whole_command_as_it_was_typed() {
    let sandbox = held();
    let typed =
        ["run", "my-site", "--operation", "edit", "--wait", "0s", "--message", "it's me", "--", "sh", "-c", "a\nb"];
    let refusal = said(&sandbox, &typed);
    let line = refusal.lines().find_map(|line| line.strip_prefix("Wait for your turn:  ")).unwrap();
    let (_, arguments) = line.split_once("buildlock ").unwrap();
    let next = r"run my-site --operation edit --message 'it'\''s me' --wait 10m -- sh -c $'a\nb'";
    assert_eq!(arguments, next);
}

#[test]
fn what_is_not_understood_is_told_in_json_where_it_is_asked_for() {
    let sandbox = Sandbox::new();
    assert_data_eq!(
        said(&sandbox, &["renew", "my-site", "--json"]),
        str![[r#"
{"code":"INVALID_REQUEST","detail":"the following required arguments were not provided: --token <N>"}
exit code 2

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["lock", "my-site", "--tll", "5s", "--json"]),
        str![[r#"
{"code":"INVALID_REQUEST","detail":"unexpected argument '--tll' found; tip: a similar argument exists: '--ttl'"}
exit code 2

"#]]
    );
    // Standard output is the command's own.
    let run = sandbox.run(&["run", "my-site", "--ttl", "5", "--json", "--", "true"]);
    assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(2), &b""[..]));
    let problem: serde_json::Value = serde_json::from_slice(&run.stderr).unwrap();
    assert_eq!(problem["code"], "INVALID_REQUEST");
    for (json, is_json) in [("1", true), ("true", true), ("0", false), ("", false)] {
        let output = sandbox.buildlock(&["lock"]).env("BUILDLOCK_JSON", json).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(output.stdout.starts_with(b"{"), is_json, "BUILDLOCK_JSON={json}");
        assert_eq!(output.stderr.is_empty(), is_json);
    }
    // It is the build's.
    assert!(sandbox.run(&["run", "--", "true", "--json"]).stderr.starts_with(b"error: "));
    assert!(sandbox.ok(&["--json", "--help"]).starts_with("One build per project"));
}

#[test]
fn status_is_a_table() {
    let sandbox = held();
    assert_data_eq!(
        said(&sandbox, &["status"]),
        str![[r#"
PROJECT  STATUS      HOLDER      OPERATION  SINCE  ENDS IN     TOKEN  WAITING  MESSAGE
my-site  processing  ana@laptop  edit       [..] s    4 min [..] s  1      0        new header
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["status", "my-site", "--json"]),
        str![[r#"
{"project":"my-site","owner":"ana@laptop","buildStatus":"processing","lease":{"project":"my-site","token":1,"holder":"ana@laptop","operation":"edit","message":"new header","ttl":300,"acquiredAt":"[..]Z","expiresAt":"[..]Z"},"queue":[]}
exit code 0

"#]]
    );
    sandbox.ok(&["unlock", "my-site", "--token", "1"]);
    assert_data_eq!(
        said(&sandbox, &["status"]),
        str![[r#"
nothing is locked
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["status", "my-site"]),
        str![[r#"
PROJECT  STATUS  HOLDER  OPERATION  SINCE  ENDS IN  TOKEN  WAITING  MESSAGE
my-site  idle    -       -          -      -        -      0
exit code 0

"#]]
    );
}

#[test]
fn a_force_unlock_is_on_record() {
    let sandbox = held();
    let force = ["force-unlock", "my-site", "--token", "1", "--reason", "builder is gone", "--holder", "ops"];
    assert_data_eq!(
        said(&sandbox, &force),
        str![[r#"
force-unlocked "my-site": the lease of ana@laptop with token 1 has ended
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &force),
        str![[r#"
buildlock: the lease on "my-site" is lost: it was force-unlocked by ops: builder is gone
exit code 79

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["history", "my-site"]),
        str![[r#"
ID  TIME                     PROJECT  EVENT           HOLDER      TOKEN  OPERATION  DETAIL
2   [..] UTC  my-site  force unlocked  ana@laptop  1      edit       by ops: builder is gone
1   [..] UTC  my-site  granted         ana@laptop  1      edit       new header
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["history", "-n", "1", "--json"]),
        str![[r#"
[{"id":2,"at":"[..]Z","project":"my-site","kind":"force_unlocked","holder":"ana@laptop","token":1,"operation":"edit","by":"ops","reason":"builder is gone"}]
exit code 0

"#]]
    );
}

/// Rule 3.
#[test]
fn a_lost_lease_says_how_it_ended_and_who_holds_now() {
    let sandbox = held();
    sandbox.ok(&["unlock", "my-site", "--token", "1"]);
    assert_data_eq!(
        said(&sandbox, &["unlock", "my-site", "--token", "1", "--json"]),
        str![[r#"
{"token":1,"holder":"ana@laptop","how":"unlocked","endedAt":"[..]Z","by":"ana@laptop"}
exit code 0

"#]]
    );
    sandbox.ok(&["lock", "my-site", "--holder", "ben"]);
    assert_data_eq!(
        said(&sandbox, &["renew", "my-site", "--token", "1"]),
        str![[r#"
buildlock: the lease on "my-site" is lost: it was unlocked by ana@laptop

  Project:   my-site
  Holder:    ben
  Operation: build
  Since:     [..] UTC
  Until:     [..] UTC, unless renewed
  Token:     2
  Waiting:   0
exit code 79

"#]]
    );
}

#[test]
fn somebody_elses_lease_is_not_touched() {
    assert_data_eq!(
        said(&held(), &["unlock", "my-site", "--token", "1", "--holder", "ben"]),
        str![[r#"
buildlock: the lease with token 1 on "my-site" is not yours: ana@laptop holds it

  Project:   my-site
  Holder:    ana@laptop
  Operation: edit
  Message:   new header
  Since:     [..] UTC
  Until:     [..] UTC, unless renewed
  Token:     1
  Waiting:   0
exit code 77

"#]]
    );
}

#[test]
fn a_wrong_token_says_so() {
    assert_data_eq!(
        said(&held(), &["unlock", "my-site", "--token", "7", "-q"]),
        str![[r#"
buildlock: "my-site" never had a lease with token 7

  Project:   my-site
...
exit code 1

"#]]
    );
}

#[test]
fn an_unknown_project_says_where_to_look() {
    let unknown = str![[r#"
buildlock: there is no project "nope"; "buildlock projects" lists them, and one is made when it is first locked
exit code 1

"#]];
    let sandbox = Sandbox::new();
    assert_data_eq!(said(&sandbox, &["status", "nope"]), unknown.clone());
    assert_data_eq!(said(&sandbox, &["history", "nope"]), unknown.clone());
    assert_data_eq!(said(&sandbox, &["unlock", "nope", "--token", "1"]), unknown.clone());
    assert_data_eq!(said(&sandbox, &["projects", "delete", "nope"]), unknown);
}

#[test]
fn a_wait_that_ran_out_says_where_one_stood() {
    assert_data_eq!(
        said(&held(), &["lock", "my-site", "--wait", "10ms"]),
        str![[r#"
buildlock: "my-site" is locked by ana@laptop (edit) for 0 s; you are next
buildlock: the wait for "my-site" is over: it is still locked, you were next in line

  Project:   my-site
...
exit code 124

"#]]
    );
}

#[test]
fn projects_are_listed_added_and_deleted() {
    let sandbox = Sandbox::new();
    assert_data_eq!(
        said(&sandbox, &["projects"]),
        str![[r#"
there are no projects; one is made when it is first locked
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["projects", "add", "a"]),
        str![[r#"
"a" added
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["projects", "add", "a"]),
        str![[r#"
"a" exists already
exit code 0

"#]]
    );
    sandbox.ok(&["lock", "b"]);
    let locked = said(&sandbox, &["projects", "delete", "b"]);
    assert!(locked.contains("\"b\" is locked") && locked.ends_with("exit code 75\n"), "{locked}");
    assert_data_eq!(
        said(&sandbox, &["projects", "delete", "a"]),
        str![[r#"
"a" deleted; its events stay in the history
exit code 0

"#]]
    );
    let list = sandbox.ok(&["projects", "--json"]);
    assert!(list.contains(r#""project":"b""#) && !list.contains(r#""project":"a""#), "{list}");
}

#[test]
fn a_key_is_shown_once_and_known_by_its_number() {
    let sandbox = Sandbox::new();
    assert_data_eq!(
        said(&sandbox, &["keys"]),
        str![[r#"
there are no keys; add one: buildlock keys add OWNER --role user
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["keys", "add", "ana"]),
        str![[r#"
bl_[..]
key 1 of ana (user); it is not shown again
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["keys", "add", "app", "--role", "service", "--json"]),
        str![[r#"
{"number":2,"owner":"app","role":"service","createdAt":"[..]Z","key":"bl_[..]"}
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["keys", "list"]),
        str![[r#"
NUMBER  OWNER  ROLE     CREATED
1       ana    user     [..] UTC
2       app    service  [..] UTC
exit code 0

"#]]
    );
    for number in ["1", "1"] {
        assert_data_eq!(
            said(&sandbox, &["keys", "revoke", number]),
            str![[r#"
key 1 is revoked: servers refuse it within a second
exit code 0

"#]]
        );
    }
    assert_data_eq!(
        said(&sandbox, &["keys", "--json"]),
        str![[r#"
[{"number":2,"owner":"app","role":"service","createdAt":"[..]Z"}]
exit code 0

"#]]
    );
    assert_data_eq!(
        said(&sandbox, &["keys", "revoke", "7"]),
        str![[r#"
buildlock: there is no key 7; "buildlock keys" lists them
exit code 1

"#]]
    );
}

#[test]
fn a_key_is_not_in_the_file() {
    let sandbox = Sandbox::new();
    let key = sandbox.ok(&["-q", "keys", "add", "ana", "--role", "operator"]);
    let (key, random) = (key.trim(), key.trim().strip_prefix("bl_").unwrap());
    assert_eq!(key.len(), 46);
    for file in fs::read_dir(sandbox.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(random.len()).any(|bytes| bytes == random.as_bytes()), "the key is kept");
    }
}

#[test]
fn keys_are_for_who_has_the_file() {
    assert_data_eq!(
        said(&Sandbox::new(), &["keys", "--store", "http://127.0.0.1:7878"]),
        str![[r#"
buildlock: "http://127.0.0.1:7878" names no store: it is no file; [..]
exit code 2

"#]]
    );
}

#[test]
fn the_doctor_looks_at_everything() {
    assert_data_eq!(
        said(&held(), &["doctor"]),
        str![[r#"
store sqlite:[..]/locks.db

ok    holder: others see you as ana@laptop
ok    sqlite: version [..]
ok    integrity: SQLite finds no damage
ok    disk: the file has [..] KiB, the disk [..] MiB free
ok    clock: the store's time is the wall clock's
ok    projects: all can be read
ok    locks: 1 held, 0 waiting
ok    expiry: nothing is overdue
ok    history: 1 events; all are kept
ok    builds: 0 running, 0 finished; their logs have 0 KiB
exit code 0

"#]]
    );
}

#[test]
fn history_is_kept_as_long_as_it_is_told() {
    let sandbox = held();
    assert_data_eq!(
        said(&sandbox, &["history", "--keep-for", "2160h", "--keep-last", "100000"]),
        str![[r#"
events go after 90 d 0 h; the last 100000 events and the last day's are kept
exit code 0

"#]]
    );
    assert!(sandbox.ok(&["doctor"]).contains("1 events; kept for 90 days, at most 100000"));
    assert_data_eq!(
        said(&sandbox, &["history", "--keep-all"]),
        str![[r#"
all events are kept
exit code 0

"#]]
    );
}

#[test]
fn migrate_makes_the_store_and_prints_its_sql() {
    let sandbox = Sandbox::new();
    let sql = sandbox.ok(&["migrate", "--print"]);
    assert!(sql.contains("create table projects"));
    assert!(!sandbox.path().join("locks.db").exists(), "--print does nothing");
    assert_data_eq!(
        said(&sandbox, &["migrate"]),
        str![[r#"
sqlite:[..]/locks.db is at version 3, the newest that this program knows
exit code 0

"#]]
    );
}

#[test]
fn help_begins_with_what_it_is_for_and_ends_with_the_exit_codes() {
    let help = Sandbox::new().ok(&["--help"]);
    assert!(help.starts_with("One build per project: never two at once, never stuck"));
    assert!(help.contains("  75        locked (another with -E)\n"));
}

#[test]
fn completions_and_manual_pages_come_for_every_command() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(sandbox.ok(&["completions", shell]).contains("force-unlock"), "{shell}");
    }
    assert!(sandbox.ok(&["man"]).contains(".TH buildlock"));
    sandbox.ok(&["man", "--to", "."]);
    let page = |name: &str| fs::read_to_string(sandbox.path().join(name)).unwrap();
    for name in ["buildlock.1", "buildlock-run.1", "buildlock-force-unlock.1", "buildlock-keys.1", "buildlock-serve.1"]
    {
        let page = page(name);
        let sections: Vec<_> = page.lines().filter(|line| line.starts_with(".SH")).collect();
        let status = sections.iter().position(|line| *line == ".SH \"EXIT STATUS\"").unwrap();
        assert_eq!(sections[status + 1], ".SH EXAMPLES", "{name}");
        assert!(!sections.contains(&".SH EXTRA"), "{name}");
    }
    let run = page("buildlock-run.1");
    assert!(run.contains("\n.TP\n\\fB79\\fR\nthe lease was lost while the command ran; it was stopped\n"), "{run}");
    assert!(run.contains("\\fBbuildlock run my\\-site \\-\\-wait 10m \\-\\- npm run build\\fR\nwait in line"), "{run}");
    assert!(!sandbox.path().join("buildlock-build-supervisor.1").exists(), "it is not for people");
}
