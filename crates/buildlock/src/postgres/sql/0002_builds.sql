-- Builds, their logs, the servers that run them, and the keys of the servers' clients. Times are as in the
-- lock's tables. A text that a builder has printed may have a NUL, which PostgreSQL's text cannot: it is kept as
-- U+10FFFF and '0', and U+10FFFF itself as U+10FFFF and '1'.

-- A build: one run of an operation on a project, under a lease. It names its project by its id, since
-- it outlives a project that is deleted: is_deleted then hides it, until it is removed.
create table buildlock.builds (
  id         uuid    primary key,   -- later builds have larger ones
  project    text    collate "C" not null,
  operation  text    collate "C" not null,
  holder     text    collate "C" not null,
  token      bigint  not null,
  request    uuid    not null unique,
  status     text    collate "C" not null default 'running'
    check (status in ('running', 'succeeded', 'failed', 'cancelled', 'lost')),
  exit_code  integer,
  reason     text    collate "C",
  started_at bigint  not null,
  ended_at   bigint,
  log_lines  bigint  not null default 0,
  log_bytes  bigint  not null default 0,
  cancel_by  text    collate "C",   -- who wants it cancelled, for the server that runs it to see
  is_deleted boolean not null default false,
  check ((status = 'running') = (ended_at is null))
) with (fillfactor = 80);

create index builds_of_project on buildlock.builds (project, id);
create index builds_running on buildlock.builds (id) where ended_at is null;
create index builds_ended on buildlock.builds (ended_at, id) where ended_at is not null and not is_deleted;
create index builds_deleted on buildlock.builds (id) where is_deleted;

-- The lines of a build's log: the first is 1, none is left out.
create table buildlock.build_log (
  build  uuid   not null references buildlock.builds on delete cascade,
  number bigint not null,
  at     bigint not null,
  stream text   collate "C" not null check (stream in ('stdout', 'stderr', 'system')),
  text   text   collate "C" not null,
  primary key (build, number)
);

-- The servers that run builds now, and when each was last heard of. Unlogged, since after a crash of the
-- database those that live are heard of again within a moment.
create unlogged table buildlock.servers (
  id      uuid   primary key,
  name    text   collate "C" not null,   -- for people: its host and process
  seen_at bigint not null,
  builds  uuid[] not null                -- what it runs
) with (fillfactor = 50);

-- The keys with which the servers' clients show who they are, as SHA-256. A key that was revoked is kept,
-- so that nothing makes it valid again.
create table buildlock.keys (
  number     bigint generated always as identity primary key,
  hash       bytea  not null unique check (octet_length(hash) = 32),
  owner      text   collate "C" not null,
  role       text   collate "C" not null check (role in ('user', 'service', 'operator')),
  created_at bigint not null,
  revoked_at bigint
);

-- Whoever makes a project anew must not see the builds of the one before. They are hidden, as their number
-- may be large, and removed with those that are no longer kept.
create function buildlock.hide_builds()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update buildlock.builds
  set is_deleted = true
  where project = old.project and not is_deleted;
  return null;
end
$$;

comment on function buildlock.hide_builds() is 'Hides the builds of a project that is deleted, by whomever.';

create trigger builds_of_deleted_projects
after delete on buildlock.locks
for each row execute function buildlock.hide_builds();
