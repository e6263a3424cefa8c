-- Many commands at once.

-- buildlock.apply(at_ms, projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons,
-- if_locked) returns table (ordinal, …buildlock.answer)
-- Decides many commands in one transaction: the nth of each array is the nth command's, as buildlock.decide
-- takes them. The projects' rows are locked in the order of their names before anything is decided: so transactions
-- that meet take their locks in the same order, and none waits for another that waits for it. Commands on one project
-- are decided in the order in which they stand. Each answer carries its command's place, from 1; they come in any
-- order.
--
-- What is plain is decided for all at once: to lock a project that is free, to renew or unlock a lease of one's own,
-- where nothing is due, nobody waits, and no other command here is about the project. All else, one by one, is
-- buildlock.decide's, which decides what is plain no differently.
create or replace function buildlock.apply(
  at_ms      bigint,
  projects   text[],
  kinds      text[],
  requests   uuid[],
  tokens     bigint[],
  holders    text[],
  operations text[],
  messages   text[],
  ttls_ms    bigint[],
  reasons    text[],
  if_locked  text[]
)
returns table (
  ordinal      integer,
  outcome      text,
  now_ms       bigint,
  token        bigint,
  request      uuid,
  holder       text,
  operation    text,
  message      text,
  ttl_ms       bigint,
  acquired_at  bigint,
  expires_at   bigint,
  claim_by     bigint,
  queue_length bigint,
  ticket       bigint,
  "position"   bigint,
  past_token   bigint,
  past_request uuid,
  past_holder  text,
  past_how     text,
  past_at      bigint,
  past_by      text,
  past_reason  text,
  has_news     boolean
)
language plpgsql
volatile
set search_path = ''
set jit = off
-- A plan that was made when a table was small must not scan it when it is large.
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  is_adopted constant boolean := buildlock.is_adopted();
begin
  perform
  from buildlock.locks
  where locks.project = any (projects)
  order by locks.project
  for no key update;
  -- Another statement: it sees what was committed while this one waited.
  at_ms := coalesce(at_ms, buildlock.now_ms());
  return query
    with command as (
      select *, count(*) over (partition by given.project) as of_project
      from unnest(
        projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons, apply.if_locked
      ) with ordinality as given (
        project, kind, request, token, holder, operation, message, ttl_ms, reason, if_locked, ordinal
      )
    ),
    plain as materialized (
      select
        command.ordinal,
        command.kind,
        this.project,
        this.due_at,
        this.last_event as previous,
        this.token,
        coalesce(this.request, command.request) as request,
        command.holder,
        coalesce(this.operation, command.operation) as operation,
        coalesce(this.message, command.message) as message,
        coalesce(this.ttl_ms, command.ttl_ms) as ttl_ms,
        coalesce(this.acquired_at, at_ms) as acquired_at,
        case command.kind
          when 'lock' then at_ms + command.ttl_ms
          when 'renew' then at_ms + coalesce(command.ttl_ms, this.ttl_ms)
        end as expires_at
      from command
        join buildlock.locks as this on this.project = command.project
      where command.of_project = 1
        and this.queue_length = 0
        and this.first_event is not null
        and case
          when command.kind = 'lock' then
            this.token is null
            and not exists (
              select
              from buildlock.events
              where events.request = command.request
                and events.kind = 'granted'
                and events.project = command.project
            )
          when command.kind in ('renew', 'unlock') then
            this.token = command.token
            and this.holder = command.holder
            and least(this.claim_by, this.expires_at) > at_ms
          else false
        end
    ),
    -- By itself, so that none takes a number that does not need it.
    numbered as materialized (
      select *, case when plain.kind <> 'renew' then nextval('buildlock.numbers') end as event
      from plain
    ),
    done as materialized (
      select *, coalesce(numbered.token, numbered.event) as lease
      from numbered
    ),
    recorded as (
      insert into buildlock.events (
        id, at, project, kind, holder, request, token, operation, message, ended_by, previous
      )
      select
        done.event,
        at_ms,
        done.project,
        case done.kind when 'lock' then 'granted' else 'unlocked' end,
        done.holder,
        done.request,
        done.lease,
        done.operation,
        case done.kind when 'lock' then done.message end,
        case done.kind when 'unlock' then done.holder end,
        done.previous
      from done
      where done.event is not null
    ),
    saved as (
      update buildlock.locks
      set
        holder = case when done.kind <> 'unlock' then done.holder end,
        acquired_at = case when done.kind <> 'unlock' then done.acquired_at end,
        token = case when done.kind <> 'unlock' then done.lease end,
        request = case when done.kind <> 'unlock' then done.request end,
        operation = case when done.kind <> 'unlock' then done.operation end,
        message = case when done.kind <> 'unlock' then done.message end,
        ttl_ms = case when done.kind <> 'unlock' then done.ttl_ms end,
        expires_at = done.expires_at,
        claim_by = null,
        due_at = least(done.due_at, done.expires_at),
        last_event = coalesce(done.event, done.previous)
      from done
      where locks.project = done.project
    ),
    other as (
      select command.*
      from command
      where not exists (select from done where done.ordinal = command.ordinal)
      order by command.project collate "C", command.ordinal
    )
    select
      done.ordinal::integer,
      case done.kind when 'unlock' then 'ended' else 'held' end,
      at_ms,
      held.lease,
      held.request,
      held.holder,
      held.operation,
      held.message,
      held.ttl_ms,
      held.acquired_at,
      held.expires_at,
      null::bigint,
      case when held.lease is not null then 0::bigint end,
      null::bigint,
      null::bigint,
      ended.lease,
      ended.request,
      ended.holder,
      ended.how,
      ended.at,
      ended.holder,
      null::text,
      false
    from done
      left join lateral (select done.* where done.kind <> 'unlock') as held on true
      left join lateral (
        select done.lease, done.request, done.holder, 'unlocked' as how, at_ms as at where done.kind = 'unlock'
      ) as ended on true
      cross join lateral (
        select count(*)
        from (
          select buildlock.project_changed(
            done.project, case done.kind when 'lock' then done.holder end, done.acquired_at
          )
          where is_adopted and done.event is not null
        ) as told
      ) as hook
    union all
    select other.ordinal::integer, answers.*
    from other
      cross join lateral buildlock.decide(
        at_ms, other.project, other.kind, other.request, other.token, other.holder, other.operation, other.message,
        other.ttl_ms, other.reason, other.if_locked
      ) as answers;
end
$$;

comment on function buildlock.apply(
  bigint, text[], text[], uuid[], bigint[], text[], text[], text[], bigint[], text[], text[]
) is
  'Decides many commands in one transaction, as buildlock.decide does each.';
