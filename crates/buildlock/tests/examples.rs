//! Every example runs, and says what it is there to show.

use std::process::Command;

fn said(example: &str) -> String {
    // Beside the folder of the test itself.
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(example);
    let output =
        Command::new(path).output().expect("the examples are built by \"cargo test\", not by \"--test examples\"");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn lock() {
    assert_eq!(said("lock"), "ana has the lock, token 1\nben is refused: ana is on edit: new header\nana is done\n");
}

#[test]
fn wait_in_line() {
    assert_eq!(said("wait_in_line"), "ben is number 1 in line, behind ana\nben's turn, token 2\n");
}

#[test]
fn with_lock() {
    let expected = "built: Ok(\"index.html\")\nbuilt: Err(\"a syntax error\")\nafterwards the project is idle\n";
    assert_eq!(said("with_lock"), expected);
}

#[test]
fn lost_lease() {
    assert_eq!(said("lost_lease"), "stopped: it was force-unlocked by ops: the builder hangs\n");
}

#[test]
fn fencing() {
    let expected = "\"ben's page\" is written with token 2\n\
                    \"ana's old page\" is refused: token 1 is older than Some(2)\n\
                    the old token is current: false\n";
    assert_eq!(said("fencing"), expected);
}

#[test]
fn changes() {
    let expected = "1 my-site was granted\n2 my-site was unlocked\n3 my-shop was granted\n4 my-shop was unlocked\n";
    assert_eq!(said("changes"), expected);
}

#[test]
fn force_unlock() {
    assert_eq!(said("force_unlock"), "force_unlocked by ops: laptop is closed\ngranted\n");
}
