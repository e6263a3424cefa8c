-- Many commands at once.

-- buildlock.apply(at_ms, projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons,
-- if_locked) returns table (ordinal, …buildlock.answer)
-- Decides commands in one transaction: the nth of each array is the nth command's, as buildlock.decide takes them.
-- Each answer carries its command's place, from 1; they come in any order. Those that are not answered are to be sent
-- again, in another transaction: of the commands on one project, all are answered or none. Where none is answered at
-- all, somebody else was faster. Commands on one project are to stand together, and are decided in the order in which
-- they stand. A project that is deleted while this waits for others may make it raise serialization_failure: to be
-- sent again.
--
-- What is plain comes first, in one statement: to lock a project that is free, to renew or unlock a lease of one's
-- own, where nothing is due, nobody waits, and no other command here is about the project. Then what changes nothing,
-- such as a refusal. Only if there was none of these, all are decided one by one, by buildlock.decide, which decides
-- what is plain no differently. A single command is decided by itself at once.
--
-- Projects' rows are locked in the order of their names, all in one statement: so transactions that meet take their
-- locks in the same order, and none waits for another that waits for it. That is why the rest is left for another
-- transaction, and why this is to be one of its own.
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
-- A plan that was made when a table was small must not scan it when it is large, nor take rows in an order of its own;
-- nor does it depend on what is asked.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- Nor is a plan to be compiled because it looks dear by that.
set jit = off
set plan_cache_mode = force_generic_plan
-- Whoever keeps a project's row locked, such as a transaction that verifies its token, must not hold up all that
-- travel together for long.
set lock_timeout = '1s'
as $$
#variable_conflict use_column
declare
  is_adopted constant boolean := buildlock.is_adopted();
  count      constant integer := cardinality(projects);
  answer     buildlock.answer;
  plain      integer;                 -- how many commands were plain
  seen       integer := 0;            -- how many could be answered at sight
  held       text[];                  -- the projects whose rows are locked
  missing    text[] := '{}';          -- those that there are not
begin
  if count = 1 and kinds[1] <> 'verify' then
    answer := buildlock.decide(
      at_ms, projects[1], kinds[1], requests[1], tokens[1], holders[1], operations[1], messages[1], ttls_ms[1],
      reasons[1], apply.if_locked[1]
    );
    return query
      select 1, answer.*;
    return;
  end if;

  return query
    -- Read once the rows are seen, so that whatever they say has been by then.
    with clock as materialized (
      select coalesce(at_ms, buildlock.now_ms()) as now_ms
    ),
    saved as (
      update buildlock.locks
      set
        holder = case when numbered.kind <> 'unlock' then numbered.holder end,
        acquired_at = case when numbered.kind <> 'unlock' then numbered.acquired_at end,
        token = case when numbered.kind <> 'unlock' then coalesce(numbered.token, numbered.event) end,
        request = case when numbered.kind <> 'unlock' then numbered.request end,
        operation = case when numbered.kind <> 'unlock' then numbered.operation end,
        message = case when numbered.kind <> 'unlock' then numbered.message end,
        ttl_ms = case when numbered.kind <> 'unlock' then numbered.ttl_ms end,
        expires_at = numbered.expires_at,
        claim_by = null,
        due_at = least(locks.due_at, numbered.expires_at),
        first_event = coalesce(locks.first_event, numbered.event),
        last_event = coalesce(numbered.event, numbered.previous)
      from (
        select
          plain.*,
          -- Only what needs a number takes one, and the transaction is given its own number first:
          -- buildlock.events_after tells by it whether an event that is missing may yet come.
          case
            when plain.kind <> 'renew' and pg_current_xact_id() is not null then nextval('buildlock.numbers')
          end as event
        from (
          select
            command.ordinal,
            command.kind,
            this.ctid as version,
            this.last_event as previous,
            this.expires_at as known_end,
            this.token,
            clock.now_ms,
            coalesce(this.request, command.request) as request,
            command.holder,
            coalesce(this.operation, command.operation) as operation,
            coalesce(this.message, command.message) as message,
            coalesce(this.ttl_ms, command.ttl_ms) as ttl_ms,
            coalesce(this.acquired_at, clock.now_ms) as acquired_at,
            case command.kind
              when 'lock' then clock.now_ms + command.ttl_ms
              when 'renew' then clock.now_ms + coalesce(command.ttl_ms, this.ttl_ms)
            end as expires_at
          -- The projects before and after each: commands on one project stand together.
          from unnest(
              projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, null::text || projects,
              projects[2:]
            ) with ordinality as command (
              project, kind, request, token, holder, operation, message, ttl_ms, before, after, ordinal
            )
            join buildlock.locks as this on this.project = command.project
            cross join clock
          where command.project is distinct from command.before
            and command.project is distinct from command.after
            and this.queue_length = 0
            and case
              when command.kind = 'lock' then
                this.token is null
                -- Not "not exists", for which a planner that knows no better reads all events at once.
                and (
                  select events.id
                  from buildlock.events
                  where events.request = command.request
                    and events.kind = 'granted'
                    and events.project = command.project
                  limit 1
                ) is null
              when command.kind in ('renew', 'unlock') then
                this.token = command.token
                and this.holder = command.holder
                and least(this.claim_by, this.expires_at) > clock.now_ms
              else false
            end
          order by this.project
          offset 0
        ) as plain
      ) as numbered
      where locks.ctid = numbered.version
        -- PostgreSQL's older releases follow a row to its newest version all the same. Whoever has made that since the
        -- row was read has written an event, or has renewed its lease.
        and locks.last_event is not distinct from numbered.previous
        and locks.expires_at is not distinct from numbered.known_end
        and locks.queue_length = 0
      returning
        numbered.ordinal, numbered.kind, numbered.now_ms, numbered.event, locks.project, numbered.previous,
        coalesce(numbered.token, numbered.event) as lease, numbered.request, numbered.holder, numbered.operation,
        numbered.message, numbered.ttl_ms, numbered.acquired_at, numbered.expires_at
    ),
    recorded as (
      insert into buildlock.events (
        id, at, project, kind, holder, request, token, operation, message, ended_by, previous
      )
      select
        saved.event,
        saved.now_ms,
        saved.project,
        case saved.kind when 'lock' then 'granted' else 'unlocked' end,
        saved.holder,
        saved.request,
        saved.lease,
        saved.operation,
        case saved.kind when 'lock' then saved.message end,
        case saved.kind when 'unlock' then saved.holder end,
        saved.previous
      from saved
      where saved.event is not null
    )
    select
      saved.ordinal::integer,
      case when saved.kind <> 'unlock' then 'held' else 'ended' end,
      saved.now_ms,
      case when saved.kind <> 'unlock' then saved.lease end,
      case when saved.kind <> 'unlock' then saved.request end,
      case when saved.kind <> 'unlock' then saved.holder end,
      case when saved.kind <> 'unlock' then saved.operation end,
      case when saved.kind <> 'unlock' then saved.message end,
      case when saved.kind <> 'unlock' then saved.ttl_ms end,
      case when saved.kind <> 'unlock' then saved.acquired_at end,
      saved.expires_at,
      null::bigint,
      case when saved.kind <> 'unlock' then 0::bigint end,
      null::bigint,
      null::bigint,
      case when saved.kind = 'unlock' then saved.lease end,
      case when saved.kind = 'unlock' then saved.request end,
      case when saved.kind = 'unlock' then saved.holder end,
      case when saved.kind = 'unlock' then 'unlocked' end,
      case when saved.kind = 'unlock' then saved.now_ms end,
      case when saved.kind = 'unlock' then saved.holder end,
      null::text,
      case
        when is_adopted and saved.event is not null then
          -- What it returns is void, an empty text.
          buildlock.project_changed(
            saved.project, case saved.kind when 'lock' then saved.holder end, saved.acquired_at
          )::text <> ''
        else false
      end
    from saved;
  get diagnostics plain = row_count;
  if plain = count then
    return;
  end if;

  -- What changes nothing needs no lock on a row, and no commit on the disk: a lease is verified, a lock refused, a
  -- project unknown. The clock is read after each row, so that what lives by then has lived when it was read.
  return query
    select
      command.ordinal::integer,
      case
        when this.project is null then 'unknown_project'
        when command.kind = 'verify' then 'held'
        else 'locked'
      end,
      clock.now_ms, this.token, this.request, this.holder, this.operation, this.message, this.ttl_ms,
      this.acquired_at, this.expires_at, this.claim_by, this.queue_length, null::bigint, null::bigint,
      null::bigint, null::uuid, null::text, null::text, null::bigint, null::text, null::text, false
    from (
        select *, count(*) over (partition by given.project collate "C") as abreast
        from unnest(projects, kinds, requests, tokens, apply.if_locked)
          with ordinality as given (project, kind, request, token, if_locked, ordinal)
      ) as command
      left join buildlock.locks as this on this.project = command.project
      cross join lateral (
        select coalesce(at_ms, buildlock.now_ms(), this.token) as now_ms
      ) as clock
    where case
        when command.abreast > 1 then false
        when this.project is null then not is_adopted and command.kind <> 'lock'
        when this.token is null or clock.now_ms >= least(this.claim_by, this.expires_at, this.next_check) then false
        when command.kind = 'verify' then this.token = command.token
        when command.kind = 'lock' and command.if_locked = 'refuse' then
          this.request <> command.request
          and (
            select tickets.number
            from buildlock.tickets
            where this.queue_length > 0
              and tickets.project = command.project
              and tickets.request = command.request
          ) is null
          and (
            select events.id
            from buildlock.events
            where events.request = command.request
              and events.kind = 'granted'
              and events.project = command.project
            limit 1
          ) is null
        else false
      end;
  get diagnostics seen = row_count;
  -- What was plain when it was read, and is no longer, may have left its row locked.
  if plain + seen > 0 or pg_current_xact_id_if_assigned() is not null then
    return;
  end if;

  -- New projects are made before the others are locked: whoever waits for one that is being made has not locked any
  -- that was there.
  insert into buildlock.locks (project, owner)
  select new.project, new.owner
  from (
    select distinct on (command.project collate "C")
      command.project,
      case when is_adopted then buildlock.adopted_owner(command.project) else command.holder end as owner
    from unnest(projects, kinds, holders) with ordinality as command (project, kind, holder, ordinal)
    where (command.kind = 'lock' or is_adopted)
      and not exists (select from buildlock.locks where locks.project = command.project)
    order by command.project collate "C", command.ordinal
  ) as new
  where new.owner is not null
  order by new.project collate "C"
  on conflict do nothing;
  select coalesce(array_agg(locked.project), '{}') into held
  from (
    select locks.project
    from buildlock.locks
    where locks.project = any (projects)
    order by locks.project
    for no key update
  ) as locked;
  -- From here on nothing waits, or two could wait for each other: a project that is not there now is not looked for
  -- again.
  select coalesce(array_agg(distinct named.project), '{}') into missing
  from unnest(projects) as named (project)
  where named.project <> all (held);
  if exists (
    select
    from unnest(projects, kinds) as command (project, kind)
    where command.project = any (missing)
      and case when is_adopted then buildlock.adopted_owner(command.project) is not null else command.kind = 'lock' end
  ) then
    raise exception 'a project was deleted in the meantime; nothing was changed' using errcode = 'serialization_failure';
  end if;
  -- Without a time given, each reads the clock once it has its row. A project that is new has none to be locked above,
  -- and may be made, locked and unlocked by somebody else until then.
  return query
    select command.ordinal::integer, answer.*
    from (
        select *
        from unnest(projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons, apply.if_locked)
          with ordinality as given (
            project, kind, request, token, holder, operation, message, ttl_ms, reason, if_locked, ordinal
          )
        where given.project <> all (missing)
        order by given.project collate "C", given.ordinal
      ) as command
      cross join lateral buildlock.decide(
        at_ms, command.project, command.kind, command.request, command.token, command.holder, command.operation,
        command.message, command.ttl_ms, command.reason, command.if_locked
      ) as answer
    union all
    select
      command.ordinal::integer, 'unknown_project', coalesce(at_ms, buildlock.now_ms()), null, null, null, null, null,
      null, null, null, null, null, null, null, null, null, null, null, null, null, null, false
    from unnest(projects) with ordinality as command (project, ordinal)
    where command.project = any (missing);
end
$$;

comment on function buildlock.apply(
  bigint, text[], text[], uuid[], bigint[], text[], text[], text[], bigint[], text[], text[]
) is
  'Decides commands in one transaction, as buildlock.decide does each; what is not answered is to be sent again.';
