-- The lock's tables. Times are milliseconds since the Unix epoch by the store's clock (rule 10);
-- to read one: datetime(locked_at / 1000, 'unixepoch').

-- One row: the store's clock and counters.
create table store (
  id                integer primary key check (id = 1),
  boot_id           text    not null,  -- the boot that offset_ms is for
  offset_ms         integer not null,  -- the store's time is the boot-time clock plus this
  wall_ahead_ms     integer not null,  -- how far the wall clock was ahead of the store's time
  latest_ms         integer not null,  -- the store's time at the latest write
  next_token        integer not null,  -- the next fencing token (rule 2)
  keep_events_ms    integer,           -- how long history is kept; null: for ever
  keep_events_count integer            -- how many events are kept; null: all
) strict;

-- A project and its lock. The columns build_status, locked_by and locked_at are for everybody to
-- read; setting all three back by hand frees the project (rule 13, below).
create table projects (
  number       integer primary key,
  id           text    not null unique,
  owner        text    not null,
  build_status text    not null default 'idle' check (build_status in ('idle', 'processing')),
  locked_by    text,
  locked_at    integer,
  token        integer,
  request      blob,
  operation    text,
  message      text,
  ttl_ms       integer,
  expires_at   integer,
  claim_by     integer,
  due_at       integer,  -- nothing about this project is due before; kept lazily, so never too late
  last_event   integer   -- the newest of its events: the head of the chain events.previous
) strict;

create index projects_due on projects (due_at) where due_at is not null;

-- Who waits, in order (rule 6).
create table tickets (
  project     integer not null,
  number      integer not null,
  request     blob    not null,
  holder      text    not null,
  operation   text    not null,
  message     text    not null,
  ttl_ms      integer not null,
  queued_at   integer not null,
  alive_until integer not null,
  primary key (project, number)
) strict, without rowid;

-- The history (rule 11). Each event names its project's previous one, which costs less than an
-- index on the project would on every write.
create table events (
  id        integer primary key,
  at        integer not null,
  project   text    not null,
  kind      text    not null,
  holder    text    not null,
  request   blob,
  token     integer,
  operation text,
  message   text,
  ended_by  text,
  reason    text,
  previous  integer
) strict;

-- Whether a request was granted before (rule 4), and how a lease ended (rule 3).
create index events_granted on events (request) where kind = 'granted';
create index events_ended on events (token) where kind <> 'granted' and token is not null;

-- Rule 13: an operator's manual update is the real thing. buildlock's own connections do not fire
-- triggers.
create trigger projects_freed_by_hand
after update of build_status on projects
when old.build_status = 'processing' and new.build_status = 'idle'
begin
  insert into events (at, project, kind, holder, request, token, operation, previous)
  select
    max(old.locked_at, cast((julianday('now') - 2440587.5) * 86400000 as integer) - wall_ahead_ms),
    old.id, 'freed_by_hand', old.locked_by, old.request, old.token, old.operation, old.last_event
  from store;
  update projects
  set
    locked_by = null, locked_at = null, token = null, request = null, operation = null,
    message = null, ttl_ms = null, expires_at = null, claim_by = null,
    due_at = 0, last_event = (select max(id) from events)
  where number = old.number;
end;

create trigger projects_locked_by_hand
before update on projects
when old.build_status = 'idle' and (
  new.build_status = 'processing'
  or coalesce(
    new.locked_by, new.locked_at, new.token, new.request, new.operation,
    new.message, new.ttl_ms, new.expires_at, new.claim_by
  ) is not null
)
begin
  select raise(abort, 'a project is only locked by a lease: use "buildlock lock"');
end;

create trigger projects_inserted_by_hand
before insert on projects
when new.build_status <> 'idle' or coalesce(
  new.locked_by, new.locked_at, new.token, new.request, new.operation,
  new.message, new.ttl_ms, new.expires_at, new.claim_by
) is not null
begin
  select raise(abort, 'a project is only locked by a lease: use "buildlock lock"');
end;

create trigger projects_lease_changed_by_hand
before update on projects
when old.build_status = 'processing' and new.build_status = 'processing' and (
  new.locked_by, new.locked_at, new.token, new.request, new.operation,
  new.message, new.ttl_ms, new.expires_at, new.claim_by
) is not (
  old.locked_by, old.locked_at, old.token, old.request, old.operation,
  old.message, old.ttl_ms, old.expires_at, old.claim_by
)
begin
  select raise(abort, 'a lease is not changed by hand; to free the project, set build_status to ''idle''');
end;

-- A name that no request can have would keep the project, and every list of projects, from being read.
create trigger projects_named_by_hand
before insert on projects
begin
  select raise(abort, 'a project''s id and owner are 1 to 200 bytes of text without control characters')
  from (select new.id as name union all select new.owner)
  where length(cast(name as blob)) not between 1 and 200
    or instr(cast(name as blob), x'00') > 0
    or name glob '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*';
end;

create trigger projects_renamed_by_hand
before update of id, owner on projects
begin
  select raise(abort, 'a project''s id and owner are 1 to 200 bytes of text without control characters')
  from (select new.id as name union all select new.owner)
  where length(cast(name as blob)) not between 1 and 200
    or instr(cast(name as blob), x'00') > 0
    or name glob '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*';
end;

create trigger projects_deleted_by_hand
before delete on projects
begin
  insert into events (at, project, kind, holder, request, token, operation, previous)
  select
    max(old.locked_at, cast((julianday('now') - 2440587.5) * 86400000 as integer) - wall_ahead_ms),
    old.id, 'freed_by_hand', old.locked_by, old.request, old.token, old.operation, old.last_event
  from store
  where old.token is not null;
  delete from tickets where project = old.number;
end;
