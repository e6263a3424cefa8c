-- The short way of the commands that most calls are: to lock a project that is free, and to unlock one's own lease,
-- where nothing is due and nobody waits. A function's statements cost more than what they do; here it is one.
--
-- The row is not locked before an event's number is taken, so the transaction is given its own number first:
-- buildlock.events_after tells by it whether an event that is missing may yet come.

-- buildlock.decide_plainly(at_ms, project, kind, request, token, holder, operation, message, ttl_ms)
-- returns buildlock.answer
-- What buildlock.decide answers and writes, if it is plain; else without an outcome, and nothing is changed. Without a
-- request: one that is new.
create or replace function buildlock.decide_plainly(
  at_ms     bigint,
  project   text,
  kind      text,
  request   uuid,
  token     bigint,
  holder    text,
  operation text,
  message   text,
  ttl_ms    bigint
)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
-- A plan that was made when a table was small must not scan it when it is large.
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  answer buildlock.answer;
begin
  if kind = 'lock' then
    with saved as (
      update buildlock.locks
      set
        holder = decide_plainly.holder, acquired_at = free.now_ms, token = free.token,
        request = coalesce(decide_plainly.request, gen_random_uuid()), operation = decide_plainly.operation,
        message = decide_plainly.message, ttl_ms = decide_plainly.ttl_ms,
        expires_at = free.now_ms + decide_plainly.ttl_ms,
        due_at = least(locks.due_at, free.now_ms + decide_plainly.ttl_ms), last_event = free.token
      from (
        select
          locks.last_event,
          case when pg_current_xact_id() is not null then nextval('buildlock.numbers') end as token,
          coalesce(at_ms, buildlock.now_ms()) as now_ms
        from buildlock.locks
        where locks.project = decide_plainly.project
          and locks.token is null
          and locks.queue_length = 0
          and locks.first_event is not null
          and (
            decide_plainly.request is null
            or not exists (
              select
              from buildlock.events
              where events.request = decide_plainly.request
                and events.kind = 'granted'
                and events.project = decide_plainly.project
            )
          )
      ) as free
      where locks.project = decide_plainly.project
        -- Whoever has changed the row since it was read has written an event.
        and locks.last_event = free.last_event
      returning free.token, free.now_ms, free.last_event, locks.request
    )
    insert into buildlock.events (id, at, project, kind, holder, request, token, operation, message, previous)
    select
      saved.token, saved.now_ms, decide_plainly.project, 'granted', decide_plainly.holder, saved.request,
      saved.token, decide_plainly.operation, decide_plainly.message, saved.last_event
    from saved
    returning
      'held', events.at, events.id, events.request, events.holder, events.operation, events.message,
      decide_plainly.ttl_ms, events.at, events.at + decide_plainly.ttl_ms, null, 0,
      null, null, null, null, null, null, null, null, null, false
    into answer;

  elsif kind = 'unlock' then
    with saved as (
      update buildlock.locks
      set
        holder = null, acquired_at = null, token = null, request = null, operation = null, message = null,
        ttl_ms = null, expires_at = null, claim_by = null, last_event = held.event
      from (
        select
          locks.request, locks.operation, locks.last_event, clock.now_ms,
          case when pg_current_xact_id() is not null then nextval('buildlock.numbers') end as event
        from (
            select coalesce(at_ms, buildlock.now_ms()) as now_ms
          ) as clock
          join buildlock.locks on least(locks.claim_by, locks.expires_at) > clock.now_ms
        where locks.project = decide_plainly.project
          and locks.token = decide_plainly.token
          and locks.holder = decide_plainly.holder
          and locks.queue_length = 0
      ) as held
      where locks.project = decide_plainly.project
        and locks.last_event = held.last_event
        -- A renewal is no event, and changes no more than this.
        and locks.queue_length = 0
      returning held.*
    )
    insert into buildlock.events (id, at, project, kind, holder, request, token, operation, ended_by, previous)
    select
      saved.event, saved.now_ms, decide_plainly.project, 'unlocked', decide_plainly.holder, saved.request,
      decide_plainly.token, saved.operation, decide_plainly.holder, saved.last_event
    from saved
    returning
      'ended', events.at, null, null, null, null, null, null, null, null, null, null, null, null,
      events.token, events.request, events.holder, 'unlocked', events.at, events.holder, null, false
    into answer;
  end if;
  if answer.outcome is not null and buildlock.is_adopted() then
    perform buildlock.project_changed(project, answer.holder, answer.acquired_at);
  end if;
  return answer;
end
$$;

comment on function buildlock.decide_plainly(bigint, text, text, uuid, bigint, text, text, text, bigint) is
  'What buildlock.decide answers and writes, if it is plain; else without an outcome, and nothing is changed.';
