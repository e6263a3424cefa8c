-- What time alone makes due, and how long history is kept.

-- buildlock.settle_due(at_ms, at_most) returns bigint
-- Settles up to so many projects that are due (rule 8), and prunes up to so many old events. Answers in how many
-- milliseconds it is next due, as far as is known by now; null: nothing will be. Never waits for a project: one
-- that somebody has in hand is settled by whoever has it.
create or replace function buildlock.settle_due(at_ms bigint, at_most integer)
returns bigint
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  -- How soon to look again after a project that somebody has in hand.
  again_ms constant bigint := 100;
  now_ms   constant bigint := coalesce(at_ms, buildlock.now_ms());
  due      text[];
  pruned   integer;
  due_at   bigint;
begin
  select array_agg(locked.project order by locked.project) into due
  from (
    select locks.project
    from buildlock.locks
    where locks.due_at <= now_ms
    order by locks.due_at
    limit at_most
    for no key update
    skip locked
  ) as locked;
  for place in 1 .. coalesce(cardinality(due), 0) loop
    -- Its row in an adopted table may be in the hands of a transaction of the platform's own.
    if not buildlock.is_adopted() or buildlock.take_adopted(due[place]) then
      perform buildlock.decide(at_ms, due[place], 'settle', null, null, null, null, null, null, null, null);
    end if;
  end loop;
  pruned := buildlock.prune(now_ms, at_most);
  if cardinality(due) = at_most or pruned = at_most then
    return 0;
  end if;
  select min(locks.due_at) into due_at
  from buildlock.locks
  where locks.due_at is not null;
  return case when due_at <= now_ms then again_ms else due_at - now_ms end;
end
$$;

comment on function buildlock.settle_due(bigint, integer) is
  'Settles projects that are due and prunes old events. Answers in how many milliseconds it is next due.';

-- buildlock.prune(now_ms, at_most) returns integer
-- Deletes up to so many events that the retention no longer keeps, and answers how many. The last day's are
-- always kept.
create or replace function buildlock.prune(now_ms bigint, at_most integer)
returns integer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  always_kept_ms constant bigint := 24 * 60 * 60 * 1000;
  keep   buildlock.store;
  newest bigint;
  first  buildlock.events;
  kept   bigint;
  pruned integer := 0;
  more   integer;
begin
  select * into keep from buildlock.store where id;
  if keep.keep_events_ms is null and keep.keep_events_count is null then
    return 0;
  end if;
  select max(id) into newest from buildlock.events;
  -- The newest event is kept: by it others see how far history has come.
  if keep.keep_events_ms is not null then
    delete from buildlock.events
    where id in (
      select id
      from buildlock.events
      where id < newest
        and at < now_ms - greatest(keep.keep_events_ms, always_kept_ms)
      order by id
      limit at_most
      for update
      skip locked
    );
    get diagnostics pruned = row_count;
  end if;
  if keep.keep_events_count is not null then
    select * into first from buildlock.events order by id limit 1;
    -- Counting is work: not where even without gaps in the numbers there would be too few.
    if first.at < now_ms - always_kept_ms and first.id <= newest - keep.keep_events_count then
      select id into kept
      from buildlock.events
      order by id desc
      offset greatest(keep.keep_events_count, 1) - 1
      limit 1;
      delete from buildlock.events
      where id in (
        select id
        from buildlock.events
        where id < kept
          and at < now_ms - always_kept_ms
        order by id
        limit at_most - pruned
        for update
        skip locked
      );
      get diagnostics more = row_count;
      pruned := pruned + more;
    end if;
  end if;
  return pruned;
end
$$;

comment on function buildlock.prune(bigint, integer) is
  'Deletes events that the retention no longer keeps, and answers how many. The last day''s are always kept.';

-- buildlock.retention() returns table (keep_events_ms, keep_events_count)
-- How long history is kept; null: for ever, or all.
create or replace function buildlock.retention()
returns table (keep_events_ms bigint, keep_events_count bigint)
language sql
stable
set search_path = ''
as $$
  select store.keep_events_ms, store.keep_events_count
  from buildlock.store
  where store.id
$$;

comment on function buildlock.retention() is
  'How long history is kept, in milliseconds, and how many events; null: for ever, or all.';

-- buildlock.set_retention(keep_events_ms, keep_events_count) returns void
-- Sets how long history is kept, for all who use the store. The last day is always kept.
create or replace function buildlock.set_retention(keep_events_ms bigint, keep_events_count bigint)
returns void
language sql
volatile
set search_path = ''
as $$
  update buildlock.store
  set keep_events_ms = set_retention.keep_events_ms, keep_events_count = set_retention.keep_events_count
  where store.id
$$;

comment on function buildlock.set_retention(bigint, bigint) is
  'Sets how long history is kept, in milliseconds, and how many events; null: for ever, or all.';
