//! The SQL functions, called one by one: batches of any kind, with exact times.

use std::time::Duration;

use async_trait::async_trait;
use buildlock::{
    Answer, Busy, Command, Deleted, Ended, Event, EventId, Holder, How, IfLocked, Lease, LockRequest, Outcome,
    PastLease, Place, ProjectId, Recorded, Refusal, RequestId, Status, Ticket, TicketNumber, Timestamp, Token, Ttl,
};
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::histories::party::{Party, just_before};

const APPLY: &str = "select * from buildlock.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// One connection.
pub(crate) struct SqlParty {
    pub(crate) client: Client,
}

#[async_trait]
impl Party for SqlParty {
    fn name(&self) -> &'static str {
        "the SQL functions"
    }

    async fn batch(&self, now: Timestamp, commands: &[(ProjectId, Command)]) -> Vec<Answer> {
        apply(&self.client, Some(now), commands).await.unwrap()
    }

    async fn settle_due(&self, now: Timestamp) -> Option<Duration> {
        let row = self.client.query_one("select buildlock.settle_due($1, 100)", &[&ms(now)]).await.unwrap();
        row.get::<_, Option<i64>>(0).map(|ms| Duration::from_millis(ms as u64))
    }

    async fn create(&self, now: Timestamp, project: &ProjectId, owner: &Holder) -> bool {
        let arguments: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&ms(now), &project.as_str(), &owner.as_str()];
        self.client.query_one("select buildlock.create_project($1, $2, $3)", &arguments).await.unwrap().get(0)
    }

    async fn delete(&self, now: Timestamp, project: &ProjectId, by: &Holder) -> Deleted {
        let row = self
            .client
            .query_one(
                "select * from buildlock.delete_project($1, $2, $3)",
                &[&ms(now), &project.as_str(), &by.as_str()],
            )
            .await
            .unwrap();
        match row.get::<_, &str>("outcome") {
            "done" => Deleted::Gone,
            "locked" => Deleted::Locked(busy(&row).unwrap()),
            "unknown_project" => Deleted::Unknown,
            outcome => panic!("{outcome}"),
        }
    }

    async fn status(&self, now: Timestamp, project: &ProjectId) -> Option<Status> {
        let select = "select * from buildlock.project_status($1, $2)";
        self.client.query_opt(select, &[&ms(now), &project.as_str()]).await.unwrap().map(|row| status(&row))
    }

    async fn listed(&self, now: Timestamp, project: &ProjectId) -> Option<Status> {
        let select = "select * from buildlock.projects($1, $2, 1)";
        let row = self.client.query_opt(select, &[&ms(now), &just_before(project).as_str()]).await.unwrap();
        row.map(|row| status(&row)).filter(|status| status.project == *project)
    }

    async fn events_after(&self, after: EventId) -> Vec<Recorded> {
        let select = "select * from buildlock.events_after($1, null)";
        let rows = self.client.query(select, &[&(after.0 as i64)]).await.unwrap();
        rows.iter().map(recorded).collect()
    }

    async fn history(&self, project: &ProjectId, page: usize) -> Vec<Recorded> {
        let mut all: Vec<Recorded> = Vec::new();
        loop {
            let before = all.last().map(|last| last.id.0 as i64);
            let rows = self
                .client
                .query("select * from buildlock.history($1, $2, $3)", &[&project.as_str(), &before, &(page as i32)])
                .await
                .unwrap();
            all.extend(rows.iter().map(recorded));
            if rows.len() < page {
                return all;
            }
        }
    }
}

/// Has commands decided, until all are answered.
pub(crate) async fn apply(
    client: &Client,
    now: Option<Timestamp>,
    commands: &[(ProjectId, Command)],
) -> Result<Vec<Answer>, tokio_postgres::Error> {
    let statement = client.prepare(APPLY).await?;
    let mut answers: Vec<Option<Answer>> = vec![None; commands.len()];
    while answers.iter().any(Option::is_none) {
        let mut open: Vec<usize> = (0..commands.len()).filter(|&place| answers[place].is_none()).collect();
        open.sort_by_key(|&place| &commands[place].0);
        let mut sent = Columns::default();
        open.iter().for_each(|&place| sent.push(&commands[place].0, &commands[place].1));
        let rows = client
            .query(
                &statement,
                &[
                    &now.map(ms),
                    &sent.projects,
                    &sent.kinds,
                    &sent.requests,
                    &sent.tokens,
                    &sent.holders,
                    &sent.operations,
                    &sent.messages,
                    &sent.ttls_ms,
                    &sent.reasons,
                    &sent.if_locked,
                ],
            )
            .await?;
        for row in rows {
            let place = open[row.get::<_, i32>("ordinal") as usize - 1];
            let answer = Answer { outcome: outcome(&row, &commands[place].1), now: time(&row, "now_ms").unwrap() };
            assert!(answers[place].replace(answer).is_none(), "one answer to each");
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

#[derive(Default)]
struct Columns {
    projects: Vec<String>,
    kinds: Vec<&'static str>,
    requests: Vec<Option<Uuid>>,
    tokens: Vec<Option<i64>>,
    holders: Vec<Option<String>>,
    operations: Vec<Option<String>>,
    messages: Vec<Option<String>>,
    ttls_ms: Vec<Option<i64>>,
    reasons: Vec<Option<String>>,
    if_locked: Vec<Option<&'static str>>,
}

impl Columns {
    fn push(&mut self, project: &ProjectId, command: &Command) {
        let (mut kind, mut request, mut token, mut holder, mut ttl, mut reason) =
            ("settle", None, None, None, None, None);
        let (mut operation, mut message, mut if_locked) = (None, None, None);
        match command {
            Command::Lock { request: asked, if_locked: wish } => {
                (kind, request, holder) = ("lock", Some(asked.id), Some(asked.holder.clone()));
                (operation, message) = (Some(asked.operation.to_string()), Some(asked.message.to_string()));
                ttl = Some(asked.ttl);
                if_locked = Some(if *wish == IfLocked::Queue { "queue" } else { "refuse" });
            }
            Command::Withdraw { request: asked } => (kind, request) = ("withdraw", Some(*asked)),
            Command::Renew { token: asked, holder: asks, ttl: wish } => {
                (kind, token, holder, ttl) = ("renew", Some(*asked), Some(asks.clone()), *wish);
            }
            Command::Verify { token: asked } => (kind, token) = ("verify", Some(*asked)),
            Command::Unlock { token: asked, holder: asks } => {
                (kind, token, holder) = ("unlock", Some(*asked), Some(asks.clone()));
            }
            Command::ForceUnlock { token: asked, by, reason: why } => {
                (kind, token, holder) = ("force_unlock", Some(*asked), Some(by.clone()));
                reason = Some(why.to_string());
            }
            Command::Settle => {}
        }
        self.projects.push(project.to_string());
        self.kinds.push(kind);
        self.requests.push(request.map(|request| *request.as_uuid()));
        self.tokens.push(token.map(|token| token.get() as i64));
        self.holders.push(holder.map(|holder| holder.to_string()));
        self.operations.push(operation);
        self.messages.push(message);
        self.ttls_ms.push(ttl.map(|ttl| ttl.as_millis() as i64));
        self.reasons.push(reason);
        self.if_locked.push(if_locked);
    }
}

fn outcome(row: &Row, command: &Command) -> Outcome {
    let refused = |refusal| Outcome::refused(refusal);
    match row.get::<_, &str>("outcome") {
        "held" => Outcome::Held(lease(row).unwrap()),
        "queued" => {
            let ticket = TicketNumber(row.get::<_, i64>("ticket") as u64);
            let position = row.get::<_, i64>("position") as usize;
            Outcome::Queued(Place { ticket, position, busy: busy(row).unwrap() })
        }
        "ended" => Outcome::Ended(past(row)),
        "done" => Outcome::Done,
        "locked" => refused(Refusal::Locked(busy(row).unwrap())),
        "queue_full" => refused(Refusal::QueueFull(busy(row).unwrap())),
        "lost" => refused(Refusal::Lost { lease: past(row), now: busy(row) }),
        "not_holder" => refused(Refusal::NotHolder(busy(row).unwrap())),
        "never_granted" => match command {
            Command::Renew { token, .. }
            | Command::Verify { token }
            | Command::Unlock { token, .. }
            | Command::ForceUnlock { token, .. } => refused(Refusal::NeverGranted { token: *token, now: busy(row) }),
            command => panic!("{command:?} names no lease"),
        },
        "request_reused" => refused(Refusal::RequestReused),
        "unknown_project" => refused(Refusal::UnknownProject),
        outcome => panic!("{outcome}"),
    }
}

fn lease(row: &Row) -> Option<Lease> {
    Some(Lease {
        token: token(row.get::<_, Option<i64>>("token")?),
        request: RequestId::from(row.get::<_, Uuid>("request")),
        holder: word(row, "holder").unwrap(),
        operation: word(row, "operation").unwrap(),
        message: word(row, "message").unwrap(),
        ttl: ttl(row.get("ttl_ms")),
        acquired_at: time(row, "acquired_at").unwrap(),
        expires_at: time(row, "expires_at").unwrap(),
        claim_by: time(row, "claim_by"),
    })
}

fn busy(row: &Row) -> Option<Busy> {
    Some(Busy { lease: lease(row)?, queue_length: row.get::<_, i64>("queue_length") as usize })
}

fn past(row: &Row) -> PastLease {
    let how = match row.get::<_, &str>("past_how") {
        "unlocked" => How::Unlocked,
        "force_unlocked" => How::ForceUnlocked,
        "expired" => How::Expired,
        "unclaimed" => How::Unclaimed,
        how => panic!("{how}"),
    };
    let at = time(row, "past_at").unwrap();
    PastLease {
        token: token(row.get("past_token")),
        request: RequestId::from(row.get::<_, Uuid>("past_request")),
        holder: word(row, "past_holder").unwrap(),
        ended: Ended { how, at, by: word(row, "past_by"), reason: word(row, "past_reason") },
    }
}

fn status(row: &Row) -> Status {
    let (holders, operations, messages): (Vec<String>, Vec<String>, Vec<String>) =
        (row.get("ticket_holders"), row.get("ticket_operations"), row.get("ticket_messages"));
    let requests: Vec<Uuid> = row.get("ticket_requests");
    let number = |column: &str, place: usize| row.get::<_, Vec<i64>>(column)[place];
    let ticket = |place: usize| Ticket {
        number: TicketNumber(number("ticket_numbers", place) as u64),
        request: LockRequest {
            id: RequestId::from(requests[place]),
            holder: holders[place].parse().unwrap(),
            operation: operations[place].parse().unwrap(),
            message: messages[place].parse().unwrap(),
            ttl: ttl(number("ticket_ttls_ms", place)),
        },
        queued_at: Timestamp::from_millis(number("queued_at", place) as u64),
        alive_until: Timestamp::from_millis(number("alive_until", place) as u64),
    };
    Status {
        project: word(row, "project").unwrap(),
        owner: word(row, "owner").unwrap(),
        lease: lease(row),
        queue: (0..requests.len()).map(ticket).collect(),
        now: time(row, "now_ms").unwrap(),
    }
}

fn recorded(row: &Row) -> Recorded {
    let kind = row.get::<_, &str>("kind");
    let event = Event {
        at: time(row, "at").unwrap(),
        kind: buildlock::EventKind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap(),
        holder: word(row, "holder").unwrap(),
        request: row.get::<_, Option<Uuid>>("request").map(RequestId::from),
        token: row.get::<_, Option<i64>>("token").map(token),
        operation: word(row, "operation"),
        message: word(row, "message"),
        by: word(row, "ended_by"),
        reason: word(row, "reason"),
    };
    Recorded { id: EventId(row.get::<_, i64>("id") as u64), project: word(row, "project").unwrap(), event }
}

fn word<T: std::str::FromStr<Err: std::fmt::Debug>>(row: &Row, column: &str) -> Option<T> {
    optional::<String>(row, column).map(|word| word.parse().unwrap())
}

fn time(row: &Row, column: &str) -> Option<Timestamp> {
    optional::<i64>(row, column).map(|ms| Timestamp::from_millis(ms as u64))
}

fn optional<T: FromSqlOwned>(row: &Row, column: &str) -> Option<T> {
    row.get(column)
}

fn token(number: i64) -> Token {
    Token::new(number as u64).unwrap()
}

fn ttl(ms: i64) -> Ttl {
    Ttl::new(Duration::from_millis(ms as u64)).unwrap()
}

fn ms(time: Timestamp) -> i64 {
    time.as_millis() as i64
}
