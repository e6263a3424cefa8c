//! What may happen next. A step names what it is about relative to what has happened so far ("the
//! token that I was told last"), so that it keeps a meaning when a history is shrunk.

use std::fmt;
use std::time::Duration;

use buildlock_core::{Holder, IfLocked, LockRequest, RequestId, Ttl};
use proptest::prelude::*;
use uuid::Uuid;

pub(crate) const PROJECTS: usize = 2;
pub(crate) const ACTORS: [&str; 6] = ["ana", "ben", "cyd", "dan", "eve", "fay"];

/// Shorter and longer than the time to claim, than the beat and than the life of a ticket.
const TTLS_MS: [u64; 6] = [30_000, 5_000, 1_000, 16_000, 4_000, 6_000];

/// One step of a history.
#[derive(Clone)]
pub(crate) enum Step {
    /// Somebody asks for something.
    Ask { actor: usize, project: usize, ask: Ask, way: Way },
    /// Everybody who waits repeats the request.
    KeepInTouch { project: usize },
    /// The store looks after a project unasked.
    Settle { project: usize },
    /// The store forgets a project and loads it anew.
    Reload { project: usize },
    /// Time passes.
    Pass { ms: u64 },
    /// Time passes until this long before or after the `nth` thing that is due.
    PassTo { project: usize, nth: usize, offset_ms: i64 },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    Lock { which: Which, if_locked: IfLocked, differs: Option<Differs> },
    Withdraw { which: Which },
    Renew { token: Pick, ttl_s: Option<u64> },
    Verify { token: Pick },
    Unlock { token: Pick },
    ForceUnlock { token: Pick },
}

/// Which of the actor's requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    New,
    Latest,
    Earlier(u32),
}

/// What a repeated request has other than the first one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Differs {
    Holder,
    Operation,
    Message,
    Ttl,
}

/// Which token.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pick {
    /// The last one that the actor was told in this project, whatever has become of it.
    Told,
    /// The one that anybody sees who looks.
    Current,
    /// One that the store granted earlier, in any project.
    Earlier(u64),
    /// One that it has yet to grant.
    Future(u64),
}

/// What becomes of the messages: the request was sent so long ago, and the answer may be lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Way {
    pub(crate) delay_ms: u64,
    pub(crate) is_answer_lost: bool,
}

/// The `nth` request of an actor. All that it says follows from these two.
pub(crate) fn request(actor: usize, nth: u32, differs: Option<Differs>) -> LockRequest {
    let ttl_ms = TTLS_MS[(actor + nth as usize) % TTLS_MS.len()];
    let request = LockRequest {
        id: RequestId::from(Uuid::from_u128((actor as u128 + 1) << 32 | u128::from(nth))),
        holder: holder(actor),
        operation: "edit".parse().unwrap(),
        message: "new colours".parse().unwrap(),
        ttl: Ttl::new(Duration::from_millis(ttl_ms)).unwrap(),
    };
    match differs {
        None => request,
        Some(Differs::Holder) => LockRequest { holder: holder((actor + 1) % ACTORS.len()), ..request },
        Some(Differs::Operation) => LockRequest { operation: "generate".parse().unwrap(), ..request },
        Some(Differs::Message) => LockRequest { message: "new pages".parse().unwrap(), ..request },
        Some(Differs::Ttl) => LockRequest { ttl: Ttl::new(Duration::from_millis(ttl_ms + 1)).unwrap(), ..request },
    }
}

pub(crate) fn holder(actor: usize) -> Holder {
    ACTORS[actor].parse().unwrap()
}

/// A request's name in a printed history.
pub(crate) fn name(request: RequestId) -> String {
    let number = request.as_uuid().as_u128();
    format!("{}/{}", ACTORS[(number >> 32) as usize - 1], number as u32)
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..100)
}

fn step() -> impl Strategy<Value = Step> {
    let ask = (0..ACTORS.len(), 0..PROJECTS, ask(), way());
    let offset_ms = prop_oneof![3 => Just(0), 2 => Just(-1), 1 => Just(1), 1 => Just(900)];
    prop_oneof![
        24 => ask.prop_map(|(actor, project, ask, way)| Step::Ask { actor, project, ask, way }),
        3 => (0..PROJECTS).prop_map(|project| Step::KeepInTouch { project }),
        1 => (0..PROJECTS).prop_map(|project| Step::Settle { project }),
        2 => (0..PROJECTS).prop_map(|project| Step::Reload { project }),
        2 => (0..4_000_u64).prop_map(|ms| Step::Pass { ms }),
        5 => (0..PROJECTS, 0..3_usize, offset_ms)
            .prop_map(|(project, nth, offset_ms)| Step::PassTo { project, nth, offset_ms }),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let if_locked = prop_oneof![4 => Just(IfLocked::Queue), 1 => Just(IfLocked::Refuse)];
    let differs = prop_oneof![
        16 => Just(None),
        1 => Just(Some(Differs::Holder)),
        1 => Just(Some(Differs::Operation)),
        1 => Just(Some(Differs::Message)),
        1 => Just(Some(Differs::Ttl)),
    ];
    let ttl_s = prop_oneof![3 => Just(None), 1 => (1..40_u64).prop_map(Some)];
    prop_oneof![
        12 => (which(), if_locked, differs)
            .prop_map(|(which, if_locked, differs)| Ask::Lock { which, if_locked, differs }),
        2 => which().prop_map(|which| Ask::Withdraw { which }),
        4 => (pick(), ttl_s).prop_map(|(token, ttl_s)| Ask::Renew { token, ttl_s }),
        2 => pick().prop_map(|token| Ask::Verify { token }),
        4 => pick().prop_map(|token| Ask::Unlock { token }),
        2 => pick().prop_map(|token| Ask::ForceUnlock { token }),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![4 => Just(Which::Latest), 4 => Just(Which::New), 1 => (1..4_u32).prop_map(Which::Earlier)]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        8 => Just(Pick::Told),
        3 => Just(Pick::Current),
        2 => (1..6_u64).prop_map(Pick::Earlier),
        1 => (0..2_u64).prop_map(Pick::Future),
    ]
}

fn way() -> impl Strategy<Value = Way> {
    let delay_ms = prop_oneof![2 => Just(0), 1 => 1..50_u64, 1 => 50..6_000_u64];
    (delay_ms, prop::bool::weighted(0.25)).prop_map(|(delay_ms, is_answer_lost)| Way { delay_ms, is_answer_lost })
}

/// One line: a list of steps is read from top to bottom.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ask { actor, project, ask, way } => {
                let lost = if way.is_answer_lost { ", answer lost" } else { "" };
                write!(f, "project {project}: {} asks {ask:?}, sent {} ms ago{lost}", ACTORS[*actor], way.delay_ms)
            }
            Step::KeepInTouch { project } => write!(f, "project {project}: all who wait keep in touch"),
            Step::Settle { project } => write!(f, "project {project}: settle"),
            Step::Reload { project } => write!(f, "project {project}: reload"),
            Step::Pass { ms } => write!(f, "{ms} ms pass"),
            Step::PassTo { project, nth, offset_ms } => {
                write!(f, "project {project}: time passes to what is due as number {nth}, {offset_ms:+} ms")
            }
        }
    }
}
