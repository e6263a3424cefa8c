-- The history, read (rule 11).

-- buildlock.history(project, before, at_most) returns setof buildlock.events
-- The newest events of a project, or, if it is null, of all, that are older than the event with this number;
-- null: the newest of all. Newest first. A project's history begins when it was last made, or where older
-- events have been pruned.
create or replace function buildlock.history(project text, before bigint, at_most integer)
returns setof buildlock.events
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  this  buildlock.locks;
  event buildlock.events;
  next  bigint;
  found_so_far integer := 0;
begin
  if project is null then
    return query
      select *
      from buildlock.events
      where id < coalesce(history.before, 9223372036854775807)
      order by id desc
      limit at_most;
    return;
  end if;
  select * into this from buildlock.locks where locks.project = history.project;
  next := this.last_event;
  -- A page goes on from the last event of the page before it; only another number has to be searched for.
  if before between this.first_event and this.last_event then
    select * into event from buildlock.events where id = before and events.project = history.project;
    if found then
      next := event.previous;
    end if;
  end if;
  while next is not null and found_so_far < at_most loop
    select * into event from buildlock.events where id = next;
    exit when not found;
    if before is null or event.id < before then
      return next event;
      found_so_far := found_so_far + 1;
    end if;
    next := event.previous;
  end loop;
end
$$;

comment on function buildlock.history(text, bigint, integer) is
  'The newest events of a project, or of all, that are older than the event with this number; newest first.';

-- buildlock.events_after(after, at_most) returns table (…buildlock.events, snapshot_xmin, snapshot_xmax)
-- The oldest events of all projects that are newer than the event with this number; oldest first.
--
-- Transactions do not end in the order of their events' numbers. Where a number is missing, the event may yet
-- come, as long as any transaction goes on that had begun to write when the gap was seen: one whose number is less
-- than snapshot_xmax. So whoever follows the history stops before a gap until snapshot_xmin, of this answer or of
-- a later one, is no less than snapshot_xmax was when the gap was first seen. Whoever takes a number has a project's
-- row locked already, which gives its transaction a number.
create or replace function buildlock.events_after(after bigint, at_most integer)
returns table (
  id            bigint,
  at            bigint,
  project       text,
  kind          text,
  holder        text,
  request       uuid,
  token         bigint,
  operation     text,
  message       text,
  ended_by      text,
  reason        text,
  previous      bigint,
  snapshot_xmin bigint,
  snapshot_xmax bigint
)
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
begin
  return query
    select
      events.*, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
      pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    from buildlock.events
    where events.id > after
    order by events.id
    limit at_most;
end
$$;

comment on function buildlock.events_after(bigint, integer) is
  'The oldest events of all projects that are newer than the event with this number; oldest first.';
