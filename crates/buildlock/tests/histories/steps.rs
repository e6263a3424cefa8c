//! What happens in a history, in words that mean something in every store: tokens and requests are named by which
//! they are, so that a history from which steps have been left out can still be lived through.

use std::time::Duration;

use buildlock::{Command, Holder, IfLocked, LockRequest, ProjectId, RequestId, Token, Ttl};
use uuid::Uuid;

use crate::support::random::Random;

/// A step of a history.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Time goes on.
    Pass(Duration),
    /// Time goes on until so many projects have something due, and this many milliseconds more (or fewer).
    UntilDue(usize, i64),
    /// Commands that are sent together.
    Batch(Vec<(usize, Ask)>),
    /// What time has made due is done.
    SettleDue,
    /// A project is made.
    Create(usize, usize),
    /// A project is deleted.
    Delete(usize, usize),
    /// A project is looked at.
    See(usize),
}

/// A command to a project.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// The request with this number, with its own content or another.
    Lock {
        request: usize,
        changed: Option<Change>,
        if_locked: IfLocked,
    },
    Withdraw {
        request: usize,
    },
    Renew {
        lease: Which,
        asks: Who,
        ttl: Option<usize>,
    },
    Verify {
        lease: Which,
    },
    Unlock {
        lease: Which,
        asks: Who,
    },
    ForceUnlock {
        lease: Which,
        by: usize,
    },
    Settle,
}

/// How the content of a repeated request differs from the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Holder,
    Operation,
    Message,
    Ttl,
}

/// Which of the leases that callers have heard of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    /// The project's newest but so many.
    Newest(usize),
    /// Another project's newest.
    Of(usize),
    /// None that ever was.
    Never,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    /// The lease's holder.
    Holder,
    /// Anybody.
    Somebody(usize),
}

const HOLDERS: [&str; 6] = ["ana", "bob@example.com", "Žofie", "build service", "' or 1=1 --", "\\"];
const OPERATIONS: [&str; 3] = ["generate", "edit", "übersetzen"];
const MESSAGES: [&str; 4] = ["", "make it blue", "\"quoted\", {braces}, \\N", "名前"];
const TTLS_MS: [u64; 6] = [1_000, 1_001, 4_999, 5_000, 30_000, 86_400_000];

pub(crate) fn holder(number: usize) -> Holder {
    HOLDERS[number % HOLDERS.len()].parse().unwrap()
}

pub(crate) fn ttl(number: usize) -> Ttl {
    Ttl::new(Duration::from_millis(TTLS_MS[number % TTLS_MS.len()])).unwrap()
}

/// The request with this number. Projects share the numbers: an id may come again in another project.
pub(crate) fn request(number: usize, changed: Option<Change>) -> LockRequest {
    let by = |change: fn(&Change) -> bool| usize::from(changed.as_ref().is_some_and(change));
    LockRequest {
        id: RequestId::from(Uuid::from_u128(number as u128 + 1)),
        holder: holder(number + by(|change| matches!(change, Change::Holder))),
        operation: OPERATIONS[(number + by(|change| matches!(change, Change::Operation))) % 3].parse().unwrap(),
        message: MESSAGES[(number + by(|change| matches!(change, Change::Message))) % 4].parse().unwrap(),
        ttl: ttl(number / 2 + by(|change| matches!(change, Change::Ttl))),
    }
}

/// The project with this number in the run with this name.
pub(crate) fn project(run: &str, number: usize) -> ProjectId {
    format!("{run}/{number:03}").parse().unwrap()
}

impl Ask {
    /// The command, with the lease's token and holder as they are where it is sent.
    pub(crate) fn command(&self, lease: impl Fn(Which) -> (Token, Holder)) -> Command {
        let asked = |which: Which, who: Who| {
            let (token, its_holder) = lease(which);
            let asks = match who {
                Who::Holder => its_holder,
                Who::Somebody(number) => holder(number),
            };
            (token, asks)
        };
        match *self {
            Ask::Lock { request: number, changed, if_locked } => {
                Command::Lock { request: request(number, changed), if_locked }
            }
            Ask::Withdraw { request: number } => Command::Withdraw { request: request(number, None).id },
            Ask::Renew { lease, asks, ttl: number } => {
                let (token, holder) = asked(lease, asks);
                Command::Renew { token, holder, ttl: number.map(ttl) }
            }
            Ask::Verify { lease: which } => Command::Verify { token: lease(which).0 },
            Ask::Unlock { lease, asks } => {
                let (token, holder) = asked(lease, asks);
                Command::Unlock { token, holder }
            }
            Ask::ForceUnlock { lease: which, by } => {
                let reason = "it hangs; \"again\"".parse().unwrap();
                Command::ForceUnlock { token: lease(which).0, by: holder(by), reason }
            }
            Ask::Settle => Command::Settle,
        }
    }
}

/// Makes up histories.
pub(crate) struct Author {
    random: Random,
    /// The number of each project's next new request.
    next_request: Vec<usize>,
    may_repeat_in_batch: bool,
}

impl Author {
    /// For so many projects. Where a batch may not have a project twice, it has not.
    pub(crate) fn new(seed: u64, projects: usize, may_repeat_in_batch: bool) -> Self {
        Self { random: Random::new(seed), next_request: vec![0; projects], may_repeat_in_batch }
    }

    /// Has new requests begin at this number.
    pub(crate) fn begin_at(&mut self, number: usize) {
        self.next_request.fill(number);
    }

    /// A history with at least so many commands.
    pub(crate) fn history(&mut self, commands: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut written = 0;
        while written < commands {
            self.time(&mut steps);
            let batch = self.batch();
            written += batch.len();
            steps.push(Step::Batch(batch));
            for _ in 0..self.below(8) {
                self.aside(&mut steps);
            }
        }
        steps
    }

    fn time(&mut self, steps: &mut Vec<Step>) {
        match self.below(10) {
            0..3 => {}
            3..7 => {
                let (count, offset) = (self.below(8), self.below(3) as i64 - 1);
                steps.push(Step::UntilDue(1 + count, offset));
            }
            7 => steps.push(Step::Pass(Duration::from_millis(1))),
            8 => {
                let ms = self.below(2_000) as u64;
                steps.push(Step::Pass(Duration::from_millis(ms)));
            }
            _ => {
                // Now and then whole queues die.
                let ms = if self.below(4) == 0 { self.below(20_000) } else { self.below(5_000) } as u64;
                steps.push(Step::Pass(Duration::from_millis(ms)));
            }
        }
    }

    fn batch(&mut self) -> Vec<(usize, Ask)> {
        let projects = self.next_request.len();
        let size = 1 + self.below(projects);
        if self.may_repeat_in_batch {
            return (0..size)
                .map(|_| {
                    let project = self.project();
                    (project, self.ask(project))
                })
                .collect();
        }
        let first = self.project();
        (0..size)
            .map(|place| {
                let project = (first + place) % projects;
                (project, self.ask(project))
            })
            .collect()
    }

    fn ask(&mut self, project: usize) -> Ask {
        // Every tenth project has a crowd, which goes more slowly than it comes.
        let is_crowded = project.is_multiple_of(10);
        match self.below(100) {
            0..26 => self.new_lock(project),
            26..40 if is_crowded => self.new_lock(project),
            26..45 => {
                let (request, if_locked) = (self.old_request(project), self.if_locked());
                Ask::Lock { request, changed: None, if_locked }
            }
            45..48 => {
                let changed = [Change::Holder, Change::Operation, Change::Message, Change::Ttl][self.below(4)];
                let (request, if_locked) = (self.old_request(project), self.if_locked());
                Ask::Lock { request, changed: Some(changed), if_locked }
            }
            48..53 => Ask::Withdraw { request: self.old_request(project) },
            53..66 => {
                let (lease, asks) = (self.which(), self.who());
                let ttl = (self.below(3) == 0).then(|| self.below(TTLS_MS.len()));
                Ask::Renew { lease, asks, ttl }
            }
            66..72 => Ask::Verify { lease: self.which() },
            72..92 => Ask::Unlock { lease: self.which(), asks: self.who() },
            92..97 => Ask::ForceUnlock { lease: self.which(), by: self.below(HOLDERS.len()) },
            _ => Ask::Settle,
        }
    }

    fn new_lock(&mut self, project: usize) -> Ask {
        let request = self.next_request[project];
        self.next_request[project] += 1;
        Ask::Lock { request, changed: None, if_locked: self.if_locked() }
    }

    fn old_request(&mut self, project: usize) -> usize {
        let back = match self.below(4) {
            0 => self.below(12),
            _ => self.below(4),
        };
        self.next_request[project].saturating_sub(1 + back)
    }

    fn aside(&mut self, steps: &mut Vec<Step>) {
        let (project, somebody) = (self.project(), self.below(HOLDERS.len()));
        match self.below(8) {
            0 => steps.push(Step::SettleDue),
            1 => steps.push(Step::Create(project, somebody)),
            2..6 => {
                steps.push(Step::Delete(project, somebody));
                if self.below(4) == 0 {
                    steps.push(Step::Create(project, somebody + 1));
                }
            }
            _ => steps.push(Step::See(project)),
        }
    }

    fn which(&mut self) -> Which {
        match self.below(20) {
            0 => Which::Never,
            1 => Which::Of(self.project()),
            2..6 => Which::Newest(self.below(5)),
            _ => Which::Newest(0),
        }
    }

    fn who(&mut self) -> Who {
        if self.below(8) == 0 { Who::Somebody(self.below(HOLDERS.len())) } else { Who::Holder }
    }

    fn if_locked(&mut self) -> IfLocked {
        if self.below(3) == 0 { IfLocked::Refuse } else { IfLocked::Queue }
    }

    fn project(&mut self) -> usize {
        self.below(self.next_request.len())
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit as u64) as usize
    }
}
