//! The logs of builds.

use std::collections::BTreeSet;

use buildlock::{BuildId, BuildStore, LogLine, LogStream};
use tokio::task::JoinSet;

use super::{Builds, World};
use crate::support::ask::{Ask, seconds};

/// And dated by the store's clock.
pub(crate) async fn lines_are_numbered_from_1(world: impl World) {
    let build = world.store().running("site").await;
    let start = world.store().see("site").await.now;
    let mut expected = Vec::new();
    for (count, stream) in [(1, LogStream::System), (3, LogStream::Stdout), (2, LogStream::Stderr)] {
        let texts: Vec<_> = (0..count).map(|number| (stream, format!("{} {number}", stream.as_str()))).collect();
        let at = start.after(seconds(expected.len() as u64));
        let numbers = expected.len() as u64 + 1..;
        let lines: Vec<_> =
            numbers.zip(texts.clone()).map(|(number, (stream, text))| LogLine { number, at, stream, text }).collect();
        assert_eq!(world.store().append_log(build.id, texts).await.unwrap(), lines);
        world.advance(seconds(lines.len() as u64));
        expected.extend(lines);
    }
    assert_eq!(world.store().append_log(build.id, Vec::new()).await.unwrap(), []);
    assert_eq!(world.store().log(build.id, 0, 100).await.unwrap(), expected);
    assert_eq!(world.store().build(build.id).await.unwrap().unwrap().log_lines, 6);
}

/// None is left out, none counts twice, and each writer is told the numbers of its own.
pub(crate) async fn lines_of_many_writers_are_numbered_without_gaps(world: impl World) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let build = world.store().running("site").await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = if writer % 2 == 0 { world.store().clone() } else { world.another().await };
        writers.spawn(async move {
            let mut told = Vec::new();
            for line in 0..EACH {
                let text = format!("{writer}: {line}");
                told.extend(store.append_log(build.id, vec![(LogStream::Stdout, text)]).await.unwrap());
            }
            told
        });
    }
    let mut told: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    told.sort_by_key(|line| line.number);
    let log = world.store().log(build.id, 0, 1_000).await.unwrap();
    assert_eq!(log, told);
    assert!(log.iter().map(|line| line.number).eq(1..=WRITERS * EACH));
    let texts: BTreeSet<_> = log.into_iter().map(|line| line.text).collect();
    assert_eq!(texts.len() as u64, WRITERS * EACH);
}

/// As a reader does that was cut off.
pub(crate) async fn a_log_is_read_from_any_line_page_by_page(world: impl World) {
    let build = world.store().running("site").await;
    world.store().say(&build, &["a", "b", "c", "d", "e"]).await;
    let read = async |after, limit| {
        let lines = world.store().log(build.id, after, limit).await.unwrap();
        lines.into_iter().map(|line| line.text).collect::<String>()
    };
    assert_eq!(read(0, 100).await, "abcde");
    assert_eq!(read(0, 2).await, "ab");
    assert_eq!(read(2, 2).await, "cd");
    assert_eq!(read(4, 2).await, "e");
    assert_eq!(read(5, 2).await, "");
    assert_eq!(read(u64::MAX, 2).await, "");
    assert_eq!(read(0, 0).await, "");
}

/// Its log is complete, or it has none.
pub(crate) async fn a_build_that_does_not_run_takes_no_lines(world: impl World) {
    let line = || vec![(LogStream::Stdout, "late".to_owned())];
    let finished = world.store().finished("site", 2).await;
    assert_eq!(world.store().append_log(finished.id, line()).await.unwrap(), []);
    assert_eq!(world.store().said(finished.id).await.len(), 2);
    assert_eq!(world.store().build(finished.id).await.unwrap(), Some(finished));
    let unknown = BuildId::fresh();
    assert_eq!(world.store().append_log(unknown, line()).await.unwrap(), []);
    assert_eq!(world.store().said(unknown).await, [""; 0]);
}

/// Each with its own numbers.
pub(crate) async fn two_builds_have_two_logs(world: impl World) {
    let (one, two) = (world.store().running("site").await, world.store().running("site").await);
    world.store().say(&one, &["of one"]).await;
    world.store().say(&two, &["of two", "more of two"]).await;
    world.store().say(&one, &["more of one"]).await;
    assert_eq!(world.store().said(one.id).await, ["of one", "more of one"]);
    assert_eq!(world.store().said(two.id).await, ["of two", "more of two"]);
}

/// How long a line may be, the store does not say.
pub(crate) async fn any_text_is_a_line(mut world: impl World) {
    let long = "x".repeat(1 << 20);
    let texts =
        ["", " ", "\0", "a\0b", "two\nlines\r\n", "\u{1b}[31mred", "'; drop table build_log; --", "\u{202e}🔒", &long];
    let build = world.store().running("site").await;
    world.store().say(&build, &texts).await;
    world.reopen().await;
    assert_eq!(world.store().said(build.id).await, texts);
}

/// Rule 12.
pub(crate) async fn an_acknowledged_line_is_there_after_reopening(mut world: impl World) {
    let build = world.store().running("site").await;
    for text in ["first", "second"] {
        world.store().say(&build, &[text]).await;
        world.reopen().await;
    }
    assert_eq!(world.store().said(build.id).await, ["first", "second"]);
    let next = world.store().append_log(build.id, vec![(LogStream::System, "third".to_owned())]).await.unwrap();
    assert_eq!(next[0].number, 3);
}
