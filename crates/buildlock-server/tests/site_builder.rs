//! The example builder by itself: whatever the prompt, the page that it makes shows it as text.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Workspace {
    folder: TempDir,
}

/// Whether a builder did what it should, and what it said if not.
#[derive(Debug)]
struct Ended {
    succeeded: bool,
    stderr: String,
}

impl Workspace {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn start(&self, operation: &str, request: &str, pace: &str) -> Child {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/site-builder");
        let mut child = Command::new(format!("./{operation}"))
            .current_dir(example)
            .env("BUILDLOCK_WORKSPACE", self.folder.path())
            .env("BUILDLOCK_PROJECT", "../<i>\"'&")
            .env("SITE_BUILDER_PACE", pace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        child
    }

    fn run(&self, operation: &str, request: &Value) -> Ended {
        self.run_text(operation, &request.to_string())
    }

    fn run_text(&self, operation: &str, request: &str) -> Ended {
        let output = self.start(operation, request, "0").wait_with_output().unwrap();
        Ended { succeeded: output.status.success(), stderr: String::from_utf8(output.stderr).unwrap() }
    }

    #[track_caller]
    fn succeed(&self, operation: &str, prompt: &str) {
        let ended = self.run(operation, &json!({ "projectId": "p", "prompt": prompt }));
        assert!(ended.succeeded, "{ended:?}");
    }

    fn page(&self) -> String {
        fs::read_to_string(self.folder.path().join("site/index.html")).unwrap()
    }

    /// Every file of the site with its content.
    fn site(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.folder.path().join("site")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), fs::read_to_string(path).unwrap());
                }
            }
        }
        files
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// The names of all tags in a page, without what stands in them.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|tag| tag.split(|c: char| c.is_whitespace() || c == '>').next().unwrap()).collect()
}

const HOSTILE: [&str; 14] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)> & \"quotes\" 'single' `ticks`",
    "$(touch /tmp/x) ${HOME} `id`; rm -rf / | cat && true",
    "\\n is not a line's end, \\\\ two, \\u0041, %s %d %n \\0 \\c",
    "-n -e --help",
    "🏗️ 世界 עולם \u{202e}odd\u{202c} e\u{301}",
    "&amp; &lt;b&gt; &#60;",
    "a\tb",
    "/&\\1/g",
    "{\"prompt\": \"another\"}",
    "]]> --> <!-- <![CDATA[",
    "${BUILDLOCK_TOKEN:?}",
    "HTML\nEOF\nCOLOURS",
    "title: <b>",
];

#[test]
fn any_prompt_ends_up_as_text_in_the_page() {
    let plain = Workspace::new();
    plain.succeed("generate", "A plain prompt");
    let expected_tags = tags(&plain.page()).into_iter().map(str::to_owned).collect::<Vec<_>>();
    for prompt in HOSTILE {
        let workspace = Workspace::new();
        workspace.succeed("generate", &format!("A site\n{prompt}"));
        let page = workspace.page();
        for line in prompt.lines() {
            assert!(page.contains(&format!(">{}</p>", escaped(line))), "{prompt:?} in {page}");
        }
        let mut tags = tags(&page);
        // One paragraph for the plain prompt, one more for each line of this one.
        for _ in prompt.lines() {
            let at = tags.iter().position(|tag| *tag == "p").unwrap();
            tags.drain(at..at + 2);
        }
        assert_eq!(tags, expected_tags, "{prompt:?} in {page}");
        assert!(page.contains("of <bdi>../&lt;i&gt;&quot;&#39;&amp;</bdi>"), "{page}");
        workspace.succeed("edit", prompt);
        assert!(!workspace.page().contains("<script") && !workspace.page().contains("<img"), "{}", workspace.page());
    }
}

#[test]
fn a_prompt_of_one_long_word_has_a_title_of_whole_characters() {
    let workspace = Workspace::new();
    workspace.succeed("generate", &"世".repeat(1_000));
    let page = workspace.page();
    let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    assert_eq!(title, format!("{}…", "世".repeat(20)));
}

#[test]
fn what_no_page_can_hold_is_left_out() {
    let workspace = Workspace::new();
    let request = r#"{"prompt": "bell \u0007, escape \u001b[2J, NUL \u0000, half \ud83d., whole \ud83d\ude00"}"#;
    assert!(workspace.run_text("generate", request).succeeded);
    assert!(
        workspace.page().contains(">bell , escape [2J, NUL \u{fffd}, half \u{fffd}., whole 😀</p>"),
        "{}",
        workspace.page()
    );
}

#[test]
fn only_the_prompt_of_the_request_itself_counts() {
    let workspace = Workspace::new();
    let request = "{\n  \"prom\\u0070\": \"no, \\\"prompt\\\": \\\"x\\\"\",\n \"meta\": {\"prompt\": \"inner\"}, \"list\": [\"prompt\", {\"prompt\": 1}]\n}";
    let request = request.replace("prom\\u0070", "other");
    let ended = workspace.run_text("generate", &request);
    assert!(!ended.succeeded && ended.stderr.contains("no prompt"), "{ended:?}");

    let request = json!({ "meta": { "prompt": "inner" }, "prompt": "outer", "z": ["prompt", { "prompt": "last" }] });
    assert!(workspace.run("generate", &request).succeeded);
    assert!(workspace.page().contains(">outer</p>") && !workspace.page().contains("inner"));
}

#[test]
fn a_request_that_asks_for_nothing_is_refused_in_words() {
    let workspace = Workspace::new();
    for (request, words) in [
        (json!({}), "no prompt"),
        (json!({ "prompt": null }), "no prompt"),
        (json!({ "prompt": " \n\t " }), "empty"),
        (json!({ "prompt": "" }), "empty"),
    ] {
        let ended = workspace.run("generate", &request);
        assert!(!ended.succeeded && ended.stderr.contains(words), "{request}: {ended:?}");
    }
    let ended = workspace.run("edit", &json!({ "prompt": "make it green" }));
    assert!(!ended.succeeded && ended.stderr.contains("generate one first"), "{ended:?}");
}

#[test]
fn an_edit_changes_what_it_says_and_keeps_the_versions_before() {
    let workspace = Workspace::new();
    workspace.succeed("generate", "A bakery in Porto");
    let first = workspace.page();
    for instruction in ["Make it dark, and green", "title: Pão & Co", "Add that we open at 7"] {
        workspace.succeed("edit", instruction);
    }
    let page = workspace.page();
    assert!(page.contains("<title>Pão &amp; Co</title>") && page.contains(">A bakery in Porto</p>"), "{page}");
    assert!(page.contains(">Add that we open at 7</p>") && !page.contains("Make it dark"), "{page}");
    let site = workspace.site();
    let style = &site[&workspace.folder.path().join("site/style.css")];
    assert!(style.starts_with(":root { --hue: 140; --size: 1; color-scheme: dark; }"), "{style}");
    // All that the pages lead to is there, and the first version is what it was.
    assert_eq!(site[&workspace.folder.path().join("site/versions/1/index.html")], first);
    for (path, page) in site.iter().filter(|(path, _)| path.extension().unwrap() == "html") {
        for link in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(path.parent().unwrap().join(link).is_file(), "{link} in {}", path.display());
        }
    }
}

#[test]
fn a_build_that_is_killed_leaves_the_site_as_it_was() {
    let workspace = Workspace::new();
    workspace.succeed("generate", "A bakery in Porto");
    let before = workspace.site();
    let request = json!({ "prompt": "Something else" }).to_string();
    let mut child = workspace.start("generate", &request, "1000");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "Reading the prompt: Something else");
    kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(workspace.site(), before);
    workspace.succeed("edit", "title: Still here");
    assert!(workspace.page().contains(">A bakery in Porto</p>"));
}
