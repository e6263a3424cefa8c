-- Builds, their logs, and the keys of a server's clients. Times are as in the lock's tables.

-- A build: one run of an operation on a project, under a lease. It names its project by its id, since
-- it outlives a project that is deleted: is_deleted then hides it, until it is removed.
create table builds (
  number     integer primary key,
  id         blob    not null unique,  -- a UUID; later builds have larger ones
  project    text    not null,
  operation  text    not null,
  holder     text    not null,
  token      integer not null,
  request    blob    not null unique,
  status     text    not null default 'running'
    check (status in ('running', 'succeeded', 'failed', 'cancelled', 'lost')),
  exit_code  integer,
  reason     text,
  started_at integer not null,
  ended_at   integer,
  log_lines  integer not null default 0,
  log_bytes  integer not null default 0,
  is_deleted integer not null default 0 check (is_deleted in (0, 1)),
  check ((status = 'running') = (ended_at is null))
) strict;

create index builds_of_project on builds (project, id);
create index builds_running on builds (id) where status = 'running';

-- Which builds go first, and how many bytes of logs there are, without a look at the builds themselves.
create index builds_ended on builds (ended_at, number, log_bytes) where ended_at is not null and is_deleted = 0;
create index builds_deleted on builds (number) where is_deleted = 1;

-- The lines of a build's log: the first is 1, none is left out.
create table build_log (
  build  integer not null,
  number integer not null,
  at     integer not null,
  stream text    not null check (stream in ('stdout', 'stderr', 'system')),
  text   text    not null,
  primary key (build, number)
) strict, without rowid;

-- The keys with which a server's clients show who they are, as SHA-256. A key that was revoked is kept,
-- so that nothing makes it valid again.
create table keys (
  number     integer primary key,
  hash       blob    not null unique check (length(hash) = 32),
  owner      text    not null,
  role       text    not null check (role in ('user', 'service', 'operator')),
  created_at integer not null,
  revoked_at integer
) strict;

-- What an operator deletes by hand is gone with all that belongs to it. buildlock's own connections do
-- not fire triggers.
create trigger builds_of_projects_deleted_by_hand
after delete on projects
begin
  update builds
  set is_deleted = 1
  where project = old.id;
end;

create trigger builds_deleted_by_hand
after delete on builds
begin
  delete from build_log
  where build = old.number;
end;
