-- What servers that share this store must know of each other's builds.

-- buildlock.keep_builds(at_ms, server, name, builds) returns table (build, cancel_by)
-- Says that this server lives and runs these builds, and no others. Answers with those that somebody wants
-- cancelled. A server that was not heard of for a minute is forgotten.
create or replace function buildlock.keep_builds(at_ms bigint, server uuid, name text, builds uuid[])
returns table (build uuid, cancel_by text)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  now constant bigint := coalesce(at_ms, buildlock.now_ms());
begin
  insert into buildlock.servers as servers (id, name, seen_at, builds)
  values (keep_builds.server, keep_builds.name, now, keep_builds.builds)
  on conflict (id) do update
  set seen_at = excluded.seen_at, builds = excluded.builds;
  delete from buildlock.servers
  where id in (
    select stale.id
    from buildlock.servers as stale
    where stale.seen_at < now - 60000
    for update skip locked
  );
  return query
    select wanted.id, wanted.cancel_by
    from buildlock.builds as wanted
    where wanted.id = any(keep_builds.builds) and wanted.cancel_by is not null;
end
$$;

comment on function buildlock.keep_builds(bigint, uuid, text, uuid[]) is
  'Says that this server lives and runs these builds, and no others. Answers with those that somebody wants cancelled.';

-- buildlock.cancel_build(id, cancel_by) returns boolean
-- Wants a running build cancelled, for the server that runs it to see; who wanted it first is who is told of. False if it does
-- not run.
create or replace function buildlock.cancel_build(id uuid, cancel_by text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  update buildlock.builds
  set cancel_by = coalesce(builds.cancel_by, cancel_build.cancel_by)
  where builds.id = cancel_build.id and builds.status = 'running' and not builds.is_deleted;
  return found;
end
$$;

comment on function buildlock.cancel_build(uuid, text) is
  'Wants a running build cancelled, for the server that runs it to see; who wanted it first is who is told of. False if it '
  'does not run.';

-- buildlock.builds_without_lease(at_ms) returns table (id, server)
-- Builds on record as running whose lease has ended and that no server claims to run: since 1.2 s at least, which
-- is three times as long as servers are silent. With the name of the server that claimed it last, if it is known.
create or replace function buildlock.builds_without_lease(at_ms bigint)
returns table (id uuid, server text)
language sql
volatile
set search_path = ''
as $$
  select builds.id, claimed.name
  from buildlock.builds
  cross join lateral (select coalesce(at_ms, buildlock.now_ms()) as now) as clock
  left join buildlock.locks on locks.project = builds.project and locks.token = builds.token
  left join lateral (
    select servers.name, servers.seen_at
    from buildlock.servers
    where servers.builds @> array[builds.id]
    order by servers.seen_at desc
    limit 1
  ) as claimed on true
  where builds.ended_at is null
    and not builds.is_deleted
    and (locks.token is null or least(locks.expires_at, locks.claim_by) <= clock.now)
    and (claimed.seen_at is null or claimed.seen_at <= clock.now - 1200)
  order by builds.id
$$;

comment on function buildlock.builds_without_lease(bigint) is
  'Builds on record as running whose lease has ended and that no server claims to run, with the name of the server that '
  'claimed it last.';

-- buildlock.lose_build(at_ms, id, reason) returns boolean
-- Ends a build as lost if it is one of buildlock.builds_without_lease; false if it is not, or not any more.
create or replace function buildlock.lose_build(at_ms bigint, id uuid, reason text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  -- Its row first, so that nothing about it changes between the look and the end.
  perform
  from buildlock.builds
  where builds.id = lose_build.id
  for update;
  update buildlock.builds
  set status = 'lost', reason = lose_build.reason, ended_at = coalesce(at_ms, buildlock.now_ms())
  where builds.id = lose_build.id
    and builds.id in (select abandoned.id from buildlock.builds_without_lease(at_ms) as abandoned);
  return found;
end
$$;

comment on function buildlock.lose_build(bigint, uuid, text) is
  'Ends a build as lost if its lease has ended and no server claims to run it; false if that is not so.';

-- buildlock.leases_without_build(at_ms, ended_within_ms) returns setof buildlock.builds
-- Builds that have ended within this time and a second ago at least, and whose lease lives: their server was killed
-- between the two.
create or replace function buildlock.leases_without_build(at_ms bigint, ended_within_ms bigint)
returns setof buildlock.builds
language sql
volatile
set search_path = ''
as $$
  select builds.*
  from buildlock.builds
  cross join lateral (select coalesce(at_ms, buildlock.now_ms()) as now) as clock
  join buildlock.locks on locks.project = builds.project and locks.token = builds.token
  where builds.ended_at between clock.now - ended_within_ms and clock.now - 1000
    and not builds.is_deleted
    and least(locks.expires_at, locks.claim_by) > clock.now
  order by builds.id
$$;

comment on function buildlock.leases_without_build(bigint, bigint) is
  'Builds that have ended within this time and a second ago at least, and whose lease lives: their server was killed '
  'between the two.';
