-- The short way of the commands that most calls are: to lock a project that is free, and to unlock one's own lease,
-- where nothing is due and nobody waits. It waits for nobody either.

-- buildlock.decide_plainly(at_ms, project, kind, request, token, holder, operation, message, ttl_ms)
-- returns buildlock.answer
-- What buildlock.decide answers and writes, if it is plain, and nobody else has the project in hand; else without an
-- outcome, and nothing is changed. Without a request: one that is new.
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
  is_adopted constant boolean := buildlock.is_adopted();
  this       record;
  now_ms     bigint;
  event      bigint;
begin
  -- The row is locked first. That gives the transaction its own number before an event has one: buildlock.events_after
  -- tells by it whether an event that is missing may yet come. And whatever the row says has been by the time that
  -- is read then.
  select locks.last_event, locks.request, locks.operation, least(locks.claim_by, locks.expires_at) as ends_at
  into this
  from buildlock.locks
  where locks.project = decide_plainly.project
    and locks.queue_length = 0
    and locks.first_event is not null
    and case kind
      when 'lock' then locks.token is null
      when 'unlock' then locks.token = decide_plainly.token and locks.holder = decide_plainly.holder
    end
  for no key update skip locked;
  if not found or (is_adopted and not buildlock.take_adopted(project)) then
    return null;
  end if;
  now_ms := coalesce(at_ms, buildlock.now_ms());

  if kind = 'lock' then
    if request is null then
      request := gen_random_uuid();
    elsif exists (
      select
      from buildlock.events
      where events.request = decide_plainly.request
        and events.kind = 'granted'
        and events.project = decide_plainly.project
    ) then
      return null;
    end if;
    event := nextval('buildlock.numbers');
    update buildlock.locks
    set
      holder = decide_plainly.holder, acquired_at = now_ms, token = event, request = decide_plainly.request,
      operation = decide_plainly.operation, message = decide_plainly.message, ttl_ms = decide_plainly.ttl_ms,
      expires_at = now_ms + decide_plainly.ttl_ms, due_at = least(locks.due_at, now_ms + decide_plainly.ttl_ms),
      last_event = event
    where locks.project = decide_plainly.project;
    insert into buildlock.events (id, at, project, kind, holder, request, token, operation, message, previous)
    values (event, now_ms, project, 'granted', holder, request, event, operation, message, this.last_event);
    if is_adopted then
      perform buildlock.project_changed(project, holder, now_ms);
    end if;
    return (
      'held', now_ms, event, request, holder, operation, message, ttl_ms, now_ms, now_ms + ttl_ms, null, 0,
      null, null, null, null, null, null, null, null, null, false
    )::buildlock.answer;
  end if;

  if this.ends_at <= now_ms then
    return null;
  end if;
  event := nextval('buildlock.numbers');
  update buildlock.locks
  set
    holder = null, acquired_at = null, token = null, request = null, operation = null, message = null,
    ttl_ms = null, expires_at = null, claim_by = null, last_event = event
  where locks.project = decide_plainly.project;
  insert into buildlock.events (id, at, project, kind, holder, request, token, operation, ended_by, previous)
  values (event, now_ms, project, 'unlocked', holder, this.request, token, this.operation, holder, this.last_event);
  if is_adopted then
    perform buildlock.project_changed(project, null, null);
  end if;
  return (
    'ended', now_ms, null, null, null, null, null, null, null, null, null, null, null, null,
    token, this.request, holder, 'unlocked', now_ms, holder, null, false
  )::buildlock.answer;
end
$$;

comment on function buildlock.decide_plainly(bigint, text, text, uuid, bigint, text, text, text, bigint) is
  'What buildlock.decide answers and writes, if it is plain, and nobody has the project in hand; else without an outcome.';
