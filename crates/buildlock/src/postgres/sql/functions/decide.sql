-- The rules of the lock: what buildlock-core's Project::decide does, in the same order.

-- buildlock.decide(at_ms, project, kind, request, token, holder, operation, message, ttl_ms, reason, if_locked)
-- returns buildlock.answer
-- Decides one command on one project and writes what came of it. kind is lock, withdraw, renew, verify, unlock,
-- force_unlock or settle. holder is who asks: for force_unlock the operator. if_locked is refuse or queue.
-- ttl_ms of a renewal may be null: the lease's own. at_ms is the time for tests; null: the clock's, read when
-- the project's row has been locked. The row stays locked until the transaction ends, save where a lock request
-- is refused at first sight. Never waits for a lease to end.
create or replace function buildlock.decide(
  at_ms     bigint,
  project   text,
  kind      text,
  request   uuid,
  token     bigint,
  holder    text,
  operation text,
  message   text,
  ttl_ms    bigint,
  reason    text,
  if_locked text
)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
-- A plan that was made when a table was small must not scan it when it is large.
set enable_seqscan = off
-- Nor is a plan to be compiled because it looks dear by that.
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- How many may wait for one project.
  queue_limit constant bigint := 20000;
  -- How long a ticket lives after its waiter last kept in touch (rule 7).
  ticket_life constant bigint := 15000;
  now_ms      bigint;
  before      buildlock.locks;
  this        buildlock.locks;
  ticket      buildlock.tickets;
  past        buildlock.events;
  answer      buildlock.answer;
begin
  -- A refusal changes nothing: it needs no lock on the row, and no commit on the disk.
  if kind = 'lock' and if_locked = 'refuse' then
    answer := buildlock.refuse_at_sight(at_ms, project, request);
    if answer.outcome is not null then
      return answer;
    end if;
  end if;

  before := buildlock.lock_row(project, case when kind = 'lock' then holder end);
  now_ms := coalesce(at_ms, buildlock.now_ms());
  answer.has_news := false;
  answer.now_ms := now_ms;
  if before.project is null then
    answer.outcome := 'unknown_project';
    return answer;
  end if;
  if before.first_event is null and kind <> 'lock' and not buildlock.is_adopted() then
    -- A lock request further on in the same transaction is to make the project.
    answer.outcome := 'unknown_project';
    return answer;
  end if;
  this := before;

  -- What time has made due comes first: nothing is decided on a lease that has ended, and no newcomer overtakes
  -- a waiter.
  if least(this.claim_by, this.expires_at, this.next_check) <= now_ms
    or this.token is null and this.queue_length > 0
  then
    this := buildlock.settle(this, now_ms);
    answer.has_news := this.token is distinct from before.token;
  end if;

  if kind = 'lock' then
    if this.request = request then
      if (this.holder, this.operation, this.message, this.ttl_ms)
        is distinct from (holder, operation, message, ttl_ms)
      then
        answer.outcome := 'request_reused';
      else
        if this.claim_by is not null then
          this.claim_by := null;
          this.expires_at := now_ms + ttl_ms;
        end if;
        answer.outcome := 'held';
      end if;
    else
      select ended.* into past
      from buildlock.events as granted
        join buildlock.events as ended on ended.token = granted.token
      where granted.request = decide.request
        and granted.project = decide.project
        and granted.kind = 'granted'
        and ended.project = decide.project
        and ended.kind <> 'granted';
      if found then
        answer.outcome := 'lost';
      elsif this.token is null then
        this := buildlock.grant_lease(this, now_ms, request, holder, operation, message, ttl_ms, null);
        answer.outcome := 'held';
      else
        if this.queue_length > 0 then
          select * into ticket
          from buildlock.tickets
          where tickets.project = decide.project
            and tickets.request = decide.request;
        end if;
        if ticket.number is not null then
          if (ticket.holder, ticket.operation, ticket.message, ticket.ttl_ms)
            is distinct from (holder, operation, message, ttl_ms)
          then
            answer.outcome := 'request_reused';
          else
            update buildlock.tickets
            set alive_until = now_ms + ticket_life
            where tickets.project = decide.project
              and tickets.number = ticket.number;
            select count(*) into answer.position
            from buildlock.tickets
            where tickets.project = decide.project
              and tickets.number <= ticket.number;
            answer.ticket := ticket.number;
            answer.outcome := 'queued';
          end if;
        elsif if_locked = 'refuse' then
          answer.outcome := 'locked';
        elsif this.queue_length >= queue_limit then
          answer.outcome := 'queue_full';
        else
          insert into buildlock.tickets (
            project, number, request, holder, operation, message, ttl_ms, queued_at, alive_until
          )
          values (
            decide.project,
            (select coalesce(max(number), 0) + 1 from buildlock.tickets where tickets.project = decide.project),
            decide.request, decide.holder, decide.operation, decide.message, decide.ttl_ms, now_ms,
            now_ms + ticket_life
          )
          returning number into answer.ticket;
          insert into buildlock.events (id, at, project, kind, holder, request, operation, message, previous)
          values (
            nextval('buildlock.numbers'), now_ms, decide.project, 'queued', decide.holder, decide.request,
            decide.operation, decide.message, this.last_event
          )
          returning id into this.last_event;
          this.queue_length := this.queue_length + 1;
          this.next_check := least(this.next_check, now_ms + ticket_life);
          answer.position := this.queue_length;
          answer.outcome := 'queued';
        end if;
      end if;
    end if;

  elsif kind = 'withdraw' then
    if this.queue_length > 0 then
      delete from buildlock.tickets
      where tickets.project = decide.project
        and tickets.request = decide.request
      returning * into ticket;
    end if;
    if ticket.number is not null then
      insert into buildlock.events (id, at, project, kind, holder, request, operation, message, previous)
      values (
        nextval('buildlock.numbers'), now_ms, decide.project, 'left', ticket.holder, ticket.request,
        ticket.operation, ticket.message, this.last_event
      )
      returning id into this.last_event;
      this.queue_length := this.queue_length - 1;
      if this.queue_length = 0 then
        this.next_check := null;
      end if;
    elsif this.request = request then
      this := buildlock.end_lease(this, now_ms, 'unlocked', this.holder, null);
      this := buildlock.hand_over(this, now_ms);
      answer.has_news := answer.has_news or this.token is not null;
    end if;
    answer.outcome := 'done';

  elsif kind in ('renew', 'verify', 'unlock', 'force_unlock') then
    if this.token = token then
      if kind in ('renew', 'unlock') and this.holder is distinct from holder then
        answer.outcome := 'not_holder';
      elsif kind = 'verify' then
        answer.outcome := 'held';
      elsif kind = 'renew' then
        this.claim_by := null;
        this.expires_at := now_ms + coalesce(ttl_ms, this.ttl_ms);
        answer.outcome := 'held';
      else
        answer.past_token := this.token;
        answer.past_request := this.request;
        answer.past_holder := this.holder;
        answer.past_how := case kind when 'unlock' then 'unlocked' else 'force_unlocked' end;
        answer.past_at := now_ms;
        answer.past_by := holder;
        answer.past_reason := case kind when 'force_unlock' then reason end;
        this := buildlock.end_lease(this, now_ms, answer.past_how, holder, answer.past_reason);
        this := buildlock.hand_over(this, now_ms);
        answer.has_news := answer.has_news or this.token is not null or kind = 'force_unlock';
        answer.outcome := 'ended';
      end if;
    else
      select * into past
      from buildlock.events
      where events.token = decide.token
        and events.project = decide.project
        and events.kind <> 'granted';
      answer.outcome := case
        when not found then 'never_granted'
        when kind = 'unlock' and past.kind = 'unlocked' and past.holder = holder then 'ended'
        else 'lost'
      end;
    end if;

  elsif kind = 'settle' then
    answer.outcome := 'done';
  else
    raise exception 'there is no command %', coalesce(kind, 'null');
  end if;

  if past.token is not null then
    answer.past_token := past.token;
    answer.past_request := past.request;
    answer.past_holder := past.holder;
    answer.past_how := past.kind;
    answer.past_at := past.at;
    answer.past_by := past.ended_by;
    answer.past_reason := past.reason;
  end if;
  if before.first_event is null and answer.outcome = 'lost' and not buildlock.is_adopted() then
    -- A project that was deleted has a past: its requests are not granted again (rule 4), nor make it anew.
    delete from buildlock.locks
    where locks.project = decide.project;
    return answer;
  end if;
  perform buildlock.save_row(before, this, kind = 'settle');
  if this.token is not null and answer.outcome not in ('ended', 'done', 'request_reused') then
    answer.token := this.token;
    answer.request := this.request;
    answer.holder := this.holder;
    answer.operation := this.operation;
    answer.message := this.message;
    answer.ttl_ms := this.ttl_ms;
    answer.acquired_at := this.acquired_at;
    answer.expires_at := this.expires_at;
    answer.claim_by := this.claim_by;
    answer.queue_length := this.queue_length;
  end if;
  return answer;
end
$$;

comment on function buildlock.decide(bigint, text, text, uuid, bigint, text, text, text, bigint, text, text) is
  'Decides one command on one project and writes what came of it.';

-- buildlock.with_lease(answer, this) returns buildlock.answer
-- The answer with the project's lease and how many wait for it.
create or replace function buildlock.with_lease(answer buildlock.answer, this buildlock.locks)
returns buildlock.answer
language plpgsql
immutable
set search_path = ''
as $$
begin
  answer.token := this.token;
  answer.request := this.request;
  answer.holder := this.holder;
  answer.operation := this.operation;
  answer.message := this.message;
  answer.ttl_ms := this.ttl_ms;
  answer.acquired_at := this.acquired_at;
  answer.expires_at := this.expires_at;
  answer.claim_by := this.claim_by;
  answer.queue_length := this.queue_length;
  return answer;
end
$$;

comment on function buildlock.with_lease(buildlock.answer, buildlock.locks) is
  'The answer with the project''s lease and how many wait for it.';

-- buildlock.refuse_at_sight(at_ms, project, request) returns buildlock.answer
-- The answer to a new lock request that does not wait, where a lease lives and nothing is due; else without an
-- outcome. Changes nothing and locks nothing.
create or replace function buildlock.refuse_at_sight(at_ms bigint, project text, request uuid)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
  this   buildlock.locks;
  answer buildlock.answer;
begin
  select * into this
  from buildlock.locks
  where locks.project = refuse_at_sight.project
    and locks.token is not null
    and locks.request <> refuse_at_sight.request
    and not exists (
      select from buildlock.tickets
      where tickets.project = refuse_at_sight.project
        and tickets.request = refuse_at_sight.request
    )
    and not exists (
      select from buildlock.events
      where events.request = refuse_at_sight.request
        and events.kind = 'granted'
        and events.project = refuse_at_sight.project
    );
  if found then
    -- The clock is read after the row, so that what lives now has lived then.
    answer.now_ms := coalesce(at_ms, buildlock.now_ms());
    if answer.now_ms < least(this.claim_by, this.expires_at, this.next_check) then
      answer.outcome := 'locked';
      answer.has_news := false;
      return buildlock.with_lease(answer, this);
    end if;
  end if;
  return null;
end
$$;

comment on function buildlock.refuse_at_sight(bigint, text, uuid) is
  'The answer to a new lock request that does not wait, where a lease lives and nothing is due.';
