-- Builds and their logs. All take the time as at_ms, for tests; without it the clock is read.

-- buildlock.start_build(at_ms, id, project, operation, holder, token, request) returns setof buildlock.builds
-- Puts a build on record, running. If its request, or else its id, has a build already, that one is the answer.
create or replace function buildlock.start_build(
  at_ms     bigint,
  id        uuid,
  project   text,
  operation text,
  holder    text,
  token     bigint,
  request   uuid
)
returns setof buildlock.builds
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  insert into buildlock.builds (id, project, operation, holder, token, request, started_at)
  values (
    start_build.id, start_build.project, start_build.operation, start_build.holder, start_build.token,
    start_build.request, coalesce(at_ms, buildlock.now_ms())
  )
  on conflict do nothing;
  -- A statement of its own: it sees what another server has committed meanwhile.
  return query
    select builds.*
    from buildlock.builds
    where builds.request = start_build.request or builds.id = start_build.id
    order by builds.request = start_build.request desc
    limit 1;
end
$$;

comment on function buildlock.start_build(bigint, uuid, text, text, text, bigint, uuid) is
  'Puts a build on record, running. If its request, or else its id, has a build already, that one is the answer.';

-- buildlock.append_log(at_ms, build, streams, texts) returns table (first_number, at)
-- Adds lines to a running build's log: the first has this number, the others follow without a gap, whoever else
-- writes. No row if the build is unknown or has ended.
create or replace function buildlock.append_log(at_ms bigint, build uuid, streams text[], texts text[])
returns table (first_number bigint, at bigint)
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
declare
  bytes bigint := (select coalesce(sum(octet_length(line)), 0) from unnest(texts) as line);
begin
  -- Its row is locked from here on, so that lines are numbered, and dated, one writer after the other.
  update buildlock.builds
  set log_lines = log_lines + cardinality(texts), log_bytes = log_bytes + bytes
  where id = append_log.build and status = 'running' and not is_deleted
  returning log_lines - cardinality(texts) + 1
  into append_log.first_number;
  if not found then
    return;
  end if;
  append_log.at := coalesce(at_ms, buildlock.now_ms());
  insert into buildlock.build_log (build, number, at, stream, text)
  select append_log.build, append_log.first_number + line.place - 1, append_log.at, line.stream, line.text
  from unnest(streams, texts) with ordinality as line (stream, text, place);
  return next;
end
$$;

comment on function buildlock.append_log(bigint, uuid, text[], text[]) is
  'Adds lines to a running build''s log: the first has the number in the answer, the others follow without a gap, '
  'whoever else writes. No row if the build is unknown or has ended.';

-- buildlock.end_build(at_ms, id, status, exit_code, reason) returns setof buildlock.builds
-- Ends a running build, once: of a build that has ended, the answer is how it did. No row if it is unknown.
create or replace function buildlock.end_build(at_ms bigint, id uuid, status text, exit_code integer, reason text)
returns setof buildlock.builds
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  update buildlock.builds
  set
    status = end_build.status, exit_code = end_build.exit_code, reason = end_build.reason,
    ended_at = coalesce(at_ms, buildlock.now_ms())
  where builds.id = end_build.id and builds.status = 'running' and end_build.status <> 'running' and not is_deleted;
  return query
    select builds.*
    from buildlock.builds
    where builds.id = end_build.id and not is_deleted;
end
$$;

comment on function buildlock.end_build(bigint, uuid, text, integer, text) is
  'Ends a running build, once: of a build that has ended, the answer is how it did. No row if it is unknown.';

-- buildlock.prune_builds(at_ms, max_age_ms, max_bytes, at_most, lines_at_most) returns uuid[]
-- Removes some of the finished builds that are no longer kept, and of those whose project was deleted: at most
-- so many, and no more after so many lines of logs. Those of deleted projects go first, then those that ended first.
-- Answers with their ids, in that order.
create or replace function buildlock.prune_builds(
  at_ms         bigint,
  max_age_ms    bigint,
  max_bytes     bigint,
  at_most       bigint,
  lines_at_most bigint
)
returns uuid[]
language plpgsql
volatile
set search_path = ''
as $$
declare
  too_old constant bigint := coalesce(at_ms, buildlock.now_ms()) - max_age_ms;
  excess_bytes bigint;
  gone uuid[];
begin
  if max_bytes is not null then
    select coalesce(sum(builds.log_bytes), 0) - max_bytes
    into excess_bytes
    from buildlock.builds
    where builds.ended_at is not null and not builds.is_deleted;
  end if;
  with oldest as (
    select
      builds.id, builds.ended_at, builds.log_lines,
      coalesce(sum(builds.log_bytes) over before, 0) as bytes_before
    from (
      select *
      from buildlock.builds
      where builds.ended_at is not null and not builds.is_deleted
      order by builds.ended_at, builds.id
      limit at_most
    ) as builds
    window before as (order by builds.ended_at, builds.id rows between unbounded preceding and 1 preceding)
  ), going as (
    (
      select 0::bigint as ended_at, builds.id, builds.log_lines
      from buildlock.builds
      where builds.is_deleted
      order by builds.id
      limit at_most
    )
    union all
    select oldest.ended_at, oldest.id, oldest.log_lines
    from oldest
    where oldest.ended_at <= too_old or oldest.bytes_before < excess_bytes
  ), ordered as (
    select
      going.id,
      row_number() over (order by going.ended_at, going.id) as place,
      coalesce(sum(going.log_lines) over before, 0) as lines_before
    from going
    window before as (order by going.ended_at, going.id rows between unbounded preceding and 1 preceding)
  ), free as (
    -- What another server removes at this moment is its own to tell.
    select builds.id
    from buildlock.builds
    where builds.id in (
      select ordered.id
      from ordered
      where ordered.place <= at_most and ordered.lines_before < lines_at_most
    )
    for update skip locked
  )
  select coalesce(array_agg(ordered.id order by ordered.place), '{}')
  into gone
  from ordered
  join free on free.id = ordered.id;
  delete from buildlock.builds
  where builds.id = any(gone);
  return gone;
end
$$;

comment on function buildlock.prune_builds(bigint, bigint, bigint, bigint, bigint) is
  'Removes some of the finished builds that are no longer kept, and of those whose project was deleted: at most so '
  'many, and no more after so many lines of logs. Answers with their ids.';
