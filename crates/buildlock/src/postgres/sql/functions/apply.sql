-- Many commands at once.

-- buildlock.apply(at_ms, projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons,
-- if_locked) returns table (ordinal, …buildlock.answer)
-- Decides many commands in one transaction: the nth of each array is the nth command's, as buildlock.decide
-- takes them. The projects' rows are locked in the order of their names before anything is decided: so transactions
-- that meet take their locks in the same order, and none waits for another that waits for it. Commands on one project
-- are decided in the order in which they stand. Each answer carries its command's place, from 1; they come in any
-- order. A project that is deleted while this waits for others may make it raise serialization_failure: to be sent
-- again.
--
-- What changes nothing, such as a refusal, is answered first, and its row not locked. What is plain is decided for all
-- at once: to lock a project that is free, to renew or unlock a lease of one's own,
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
-- A plan that was made when a table was small must not scan it when it is large; nor does it depend on what is asked.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  is_adopted constant boolean := buildlock.is_adopted();
  -- Null: each of the others reads the clock once it has its row. A project that is new has none to be locked above,
  -- and may be made, locked and unlocked by somebody else until then.
  given_ms   constant bigint := at_ms;
  wanted     text[] := projects;      -- the projects whose rows are to be locked
  repeated   text[] := '{}';          -- those with more than one command
  answered   integer[] := '{}';       -- the commands that have their answers
  is_new     boolean;                 -- whether a command is for a project that is yet to be made
  any_new    boolean := false;
  held       text[];                  -- the projects whose rows are locked
  missing    text[] := '{}';          -- those that there are not
begin
  if cardinality(projects) = 1 and kinds[1] <> 'verify' then
    return query
      select 1, answer.*
      from buildlock.decide(
        at_ms, projects[1], kinds[1], requests[1], tokens[1], holders[1], operations[1], messages[1], ttls_ms[1],
        reasons[1], apply.if_locked[1]
      ) as answer;
    return;
  end if;

  select array_agg(named.project) into repeated
  from (
    select command.project
    from unnest(projects) as command (project)
    group by command.project
    having count(*) > 1
  ) as named;
  repeated := coalesce(repeated, '{}');

  -- What changes nothing needs no lock on a row, and no commit on the disk: a lease is verified, a lock refused, a
  -- project unknown. The clock is read after each row, so that what lives by then has lived when it was read.
  if is_adopted or kinds && array['lock', 'verify'] then
    has_news := false;
    for
      ordinal, is_new, outcome, now_ms, token, request, holder, operation, message, ttl_ms, acquired_at, expires_at,
      claim_by, queue_length
    in
      select
        command.ordinal,
        this.project is null and (command.kind = 'lock' or is_adopted),
        case
          when this.project is null then 'unknown_project'
          when command.kind = 'verify' then 'held'
          else 'locked'
        end,
        clock.now_ms, this.token, this.request, this.holder, this.operation, this.message, this.ttl_ms,
        this.acquired_at, this.expires_at, this.claim_by, this.queue_length
      from unnest(projects, kinds, requests, tokens, apply.if_locked) with ordinality as command (
          project, kind, request, token, if_locked, ordinal
        )
        left join buildlock.locks as this on this.project = command.project
        cross join lateral (
          select coalesce(at_ms, buildlock.now_ms(), this.token) as now_ms
        ) as clock
      where case
          when this.project is null and (command.kind = 'lock' or is_adopted) then true
          when command.project = any (repeated) then false
          when this.project is null then true
          when this.token is null then false
          when clock.now_ms >= least(this.claim_by, this.expires_at, this.next_check) then false
          when command.kind = 'verify' then this.token = command.token
          when command.kind = 'lock' and command.if_locked = 'refuse' then
            this.request <> command.request
            and not exists (
              select
              from buildlock.tickets
              where this.queue_length > 0
                and tickets.project = command.project
                and tickets.request = command.request
            )
            and not exists (
              select
              from buildlock.events
              where events.request = command.request
                and events.kind = 'granted'
                and events.project = command.project
            )
          else false
        end
    loop
      if is_new then
        any_new := true;
      else
        answered := answered || ordinal;
        return next;
      end if;
    end loop;
    if cardinality(answered) = cardinality(projects) then
      return;
    end if;
    if answered <> '{}' then
      select array_agg(command.project) into wanted
      from unnest(projects) with ordinality as command (project, ordinal)
      where command.ordinal <> all (answered);
    end if;
  end if;

  -- New projects are made before the others are locked: whoever waits for one that is being made has not locked any
  -- that was there.
  if any_new then
    insert into buildlock.locks (project, owner)
    select new.project, new.owner
    from (
      select distinct on (command.project collate "C")
        command.project,
        case when is_adopted then buildlock.adopted_owner(command.project) else command.holder end as owner
      from unnest(projects, kinds, holders) with ordinality as command (project, kind, holder, ordinal)
      where (command.kind = 'lock' or is_adopted)
        and command.project = any (wanted)
        and not exists (select from buildlock.locks where locks.project = command.project)
      order by command.project collate "C", command.ordinal
    ) as new
    where new.owner is not null
    order by new.project collate "C"
    on conflict do nothing;
  end if;
  select coalesce(array_agg(locked.project), '{}') into held
  from (
    select locks.project
    from buildlock.locks
    where locks.project = any (wanted)
    order by locks.project
    for no key update
  ) as locked;
  -- From here on nothing waits, or two could wait for each other: a project that is not there now is not looked for
  -- again.
  if cardinality(held) < cardinality(wanted) then
    select coalesce(array_agg(distinct named.project), '{}') into missing
    from unnest(wanted) as named (project)
    where named.project <> all (held);
    if exists (
      select
      from unnest(projects, kinds) as command (project, kind)
      where command.project = any (missing)
        and case when is_adopted then buildlock.adopted_owner(command.project) is not null else command.kind = 'lock' end
    ) then
      raise exception 'a project was deleted in the meantime; nothing was changed' using errcode = 'serialization_failure';
    end if;
  end if;
  -- Another statement: it sees what was committed while this one waited.
  at_ms := coalesce(at_ms, buildlock.now_ms());
  return query
    with command as (
      select *
      from unnest(
        projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons, apply.if_locked
      ) with ordinality as given (
        project, kind, request, token, holder, operation, message, ttl_ms, reason, if_locked, ordinal
      )
      where given.ordinal <> all (answered)
    ),
    plain as materialized (
      select
        command.ordinal,
        command.kind,
        this.project,
        this.due_at,
        this.first_event,
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
      where command.project <> all (repeated)
        and this.queue_length = 0
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
        first_event = coalesce(done.first_event, done.event),
        last_event = coalesce(done.event, done.previous)
      from done
      where locks.project = done.project
    ),
    other as (
      select command.*
      from command
      where not exists (select from done where done.ordinal = command.ordinal)
        and command.project <> all (missing)
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
        given_ms, other.project, other.kind, other.request, other.token, other.holder, other.operation, other.message,
        other.ttl_ms, other.reason, other.if_locked
      ) as answers
    union all
    select
      command.ordinal::integer, 'unknown_project', at_ms, null, null, null, null, null, null, null, null, null, null,
      null, null, null, null, null, null, null, null, null, false
    from command
    where command.project = any (missing);
end
$$;

comment on function buildlock.apply(
  bigint, text[], text[], uuid[], bigint[], text[], text[], text[], bigint[], text[], text[]
) is
  'Decides many commands in one transaction, as buildlock.decide does each.';
