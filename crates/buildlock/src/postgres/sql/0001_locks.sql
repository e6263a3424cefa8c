-- The lock's truth, in a schema that no API role can reach. Times are milliseconds since the Unix epoch;
-- to read one: to_timestamp(acquired_at / 1000.0).

create schema buildlock;

-- One row: what the store is, and how long its history is kept.
create table buildlock.store (
  id                boolean primary key default true check (id),
  version           integer not null,
  keep_events_ms    bigint,   -- how long history is kept; null: for ever
  keep_events_count bigint    -- how many events are kept; null: all
);

-- One row: where the store stands in the platform's database. Every migration makes it so again.
create table buildlock.adoption (
  id            boolean primary key default true check (id),
  table_schema  text,   -- the adopted table; null: none is adopted
  table_name    text,
  owner_column  text,
  project_type  text   not null default 'text',   -- the type of a project's id in the public functions
  added_columns text[] not null default '{}'      -- those of the table's columns that buildlock has added
);

-- Numbers events and fencing tokens alike: a lease's token is the number of the event that granted it, so
-- that later grants have larger ones (rule 2) in the order of the history. It never goes back, also not
-- on a standby that is promoted.
create sequence buildlock.numbers as bigint maxvalue 9007199254740991 no cycle;

-- A project and its lock.
create table buildlock.locks (
  project      text   collate "C" primary key,
  owner        text   collate "C" not null,
  holder       text   collate "C",
  acquired_at  bigint,
  token        bigint,
  request      uuid,
  operation    text   collate "C",
  message      text   collate "C",
  ttl_ms       bigint,
  expires_at   bigint,
  claim_by     bigint,
  queue_length bigint not null default 0,   -- how many tickets it has, so that most commands need not look
  next_check   bigint,   -- none of its tickets dies before; kept lazily, so never too late
  due_at       bigint,   -- nothing about this project is due before; kept lazily, so never too late
  first_event  bigint,   -- the oldest of its events since it was made
  last_event   bigint,   -- the newest of its events: the head of the chain events.previous
  check (num_nulls(token, holder, expires_at) in (0, 3))
) with (fillfactor = 70);

create index locks_due on buildlock.locks (due_at) where due_at is not null;

-- Who waits, in order (rule 6).
create table buildlock.tickets (
  project     text   collate "C" not null references buildlock.locks on delete cascade,
  number      bigint not null,
  request     uuid   not null,
  holder      text   collate "C" not null,
  operation   text   collate "C" not null,
  message     text   collate "C" not null,
  ttl_ms      bigint not null,
  queued_at   bigint not null,
  alive_until bigint not null,
  primary key (project, number),
  unique (project, request)
) with (fillfactor = 70);

-- The history (rule 11). Each event names its project's previous one, which costs less than an index on
-- the project would on every write.
create table buildlock.events (
  id        bigint primary key,
  at        bigint not null,
  project   text   collate "C" not null,
  kind      text   collate "C" not null,
  holder    text   collate "C" not null,
  request   uuid,
  token     bigint,
  operation text   collate "C",
  message   text   collate "C",
  ended_by  text   collate "C",
  reason    text   collate "C",
  previous  bigint
);

-- Whether a request was granted before (rule 4), and how a lease ended (rule 3).
create index events_granted on buildlock.events (request) where kind = 'granted';
create index events_ended on buildlock.events (token) where kind <> 'granted' and token is not null;

-- What came of one command; which columns are filled depends on the outcome.
create type buildlock.answer as (
  outcome        text,     -- held, queued, ended, done, locked, queue_full, lost, not_holder, never_granted,
                           -- request_reused, unknown_project
  now_ms         bigint,   -- when it was decided
  -- the live lease, be it the caller's or the one in the way; null: the project is free
  token          bigint,
  request        uuid,
  holder         text,
  operation      text,
  message        text,
  ttl_ms         bigint,
  acquired_at    bigint,
  expires_at     bigint,
  claim_by       bigint,
  queue_length   bigint,   -- with a lease in the way: how many wait
  ticket         bigint,   -- queued
  position       bigint,   -- queued: 1 is next
  -- ended, lost: the lease that has ended
  past_token     bigint,
  past_request   uuid,
  past_holder    text,
  past_how       text,     -- unlocked, force_unlocked, expired, unclaimed, freed_by_hand
  past_at        bigint,
  past_by        text,
  past_reason    text,
  has_news       boolean   -- somebody else than the caller is concerned: a waiter was granted, or a lease ended
                           -- otherwise than by its holder
);

-- A project as it is at one moment: what project_status and projects answer with.
create type buildlock.status as (
  project           text,
  owner             text,
  now_ms            bigint,
  -- the live lease; null: the project is idle
  token             bigint,
  request           uuid,
  holder            text,
  operation         text,
  message           text,
  ttl_ms            bigint,
  acquired_at       bigint,
  expires_at        bigint,
  claim_by          bigint,
  -- who waits, in order: the nth of each is the nth ticket's
  ticket_numbers    bigint[],
  ticket_requests   uuid[],
  ticket_holders    text[],
  ticket_operations text[],
  ticket_messages   text[],
  ticket_ttls_ms    bigint[],
  queued_at         bigint[],
  alive_until       bigint[]
);
