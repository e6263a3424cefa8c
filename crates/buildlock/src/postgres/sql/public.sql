-- The functions for a platform's own code, in the schema that PostgREST serves. {id} stands for the type of a
-- project's id: that of the adopted table, text where none is adopted; {adopted} for whether one is. What {short way to …}
-- stands for is in short_way/.
--
-- Each is the whole of one transaction's work, and never waits for a lock to become free. They run with their
-- owner's rights, since no API role reaches the schema buildlock: who calls is checked by buildlock.caller.

do $public$
declare
  id_type    constant text := (select project_type from buildlock.adoption);
  is_adopted constant text := (select table_name is not null from buildlock.adoption);
  found      record;
begin
  for found in
    select proc.oid::regprocedure as signature, proc.prosrc, proc.proargtypes[0] <> id_type::regtype as is_of_other_type
    from pg_catalog.pg_proc as proc
    where proc.pronamespace = 'public'::regnamespace
      and proc.proname in (
        'lock_project', 'try_lock_project', 'renew_project_lock', 'unlock_project', 'force_unlock_project',
        'verify_project_lock', 'is_project_locked', 'get_project_lock'
      )
  loop
    if found.prosrc not like '%buildlock.%' then
      raise exception 'there is a function % that is not buildlock''s; nothing was changed', found.signature
        using hint = 'Rename it or drop it, and migrate again.';
    elsif found.is_of_other_type then
      execute 'drop function ' || found.signature;
    end if;
  end loop;

  for found in
    select class.relname as name, class.relkind, attribute.atttypid is distinct from id_type::regtype as is_other
    from pg_catalog.pg_class as class
      left join pg_catalog.pg_attribute as attribute
        on attribute.attrelid = class.oid and attribute.attname = 'project_id'
    where class.relnamespace = 'public'::regnamespace
      and class.relname in ('project_lease', 'project_lock', 'ended_project_lease')
  loop
    if found.relkind <> 'c' then
      raise exception 'public.% is not buildlock''s; nothing was changed', found.name
        using hint = 'Rename it, and migrate again.';
    elsif found.is_other then
      execute format('drop type public.%I', found.name);
    end if;
  end loop;

  if to_regtype('public.project_lease') is null then
    execute replace($types$
      create type public.project_lease as (
        project_id  {id},
        token       bigint,
        holder      text,
        operation   text,
        message     text,
        ttl_seconds double precision,
        acquired_at timestamptz,
        expires_at  timestamptz
      );
    $types$, '{id}', id_type);
  end if;
  if to_regtype('public.project_lock') is null then
    execute replace($types$
      create type public.project_lock as (
        project_id   {id},
        locked       boolean,
        mine         boolean,
        token        bigint,
        holder       text,
        operation    text,
        message      text,
        locked_at    timestamptz,
        expires_at   timestamptz,
        queue_length integer
      );
    $types$, '{id}', id_type);
  end if;
  if to_regtype('public.ended_project_lease') is null then
    execute replace($types$
      create type public.ended_project_lease as (
        project_id {id},
        token      bigint,
        holder     text,
        how        text,
        ended_at   timestamptz,
        ended_by   text,
        reason     text
      );
    $types$, '{id}', id_type);
  end if;

  execute replace(replace($functions$

comment on type public.project_lease is
  'A lease: one grant of a project''s lock. token is its fencing token; it lasts ttl_seconds from the last renewal.';
comment on type public.project_lock is
  'A project''s lock: whether it is locked, whether by the caller, and by which lease. queue_length: how many wait.';
comment on type public.ended_project_lease is
  'A lease that has ended. how: unlocked, force_unlocked, expired, unclaimed or freed_by_hand.';

create or replace function public.lock_project(
  project_id  {id},
  operation   text default 'build',
  message     text default '',
  ttl_seconds double precision default 30,
  request_id  uuid default null,
  holder      text default null
)
returns public.project_lease
language plpgsql
volatile
security definer
set search_path = ''
-- A plan that was made when a table was small must not scan it when it is large.
set enable_seqscan = off
as $$
{short way to lock}
  if event is not null then
    return (
      project_id, event, asks, operation, message, ttl_ms / 1000::double precision, locked_at, expires_at
    )::public.project_lease;
  end if;
  answer := buildlock.ask_to_lock(project, operation, message, ttl_seconds, request_id, holder);
  if answer.outcome <> 'held' then
    perform buildlock.refuse_answer(project, answer);
  end if;
  return (
    project_id, answer.token, answer.holder, answer.operation, answer.message, answer.ttl_ms / 1000.0,
    to_timestamp(answer.acquired_at / 1000.0), to_timestamp(answer.expires_at / 1000.0)
  )::public.project_lease;
end
$$;

comment on function public.lock_project({id}, text, text, double precision, uuid, text) is
$comment$Locks a project, or refuses at once.

Returns the lease. Keep its token: renewing, unlocking and verifying ask for it. The lease ends by itself after ttl_seconds (1 to 86400) unless it is renewed: renew it every third of that.

operation says what for (generate, edit, any name), message is a word to those who find the project locked. request_id names the request: repeated, it returns the same lease, never a second one. holder is for services and operators, which may lock in a user's name.

A user locks its own projects. Where no table is adopted, a project that is new comes into being, owned by who locked it.

Raises PROJECT_LOCKED (409), LEASE_LOST (410: the request had a lease, which has ended), PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401), FORBIDDEN (403), STORE_UNAVAILABLE (503).$comment$;

create or replace function public.try_lock_project(
  project_id  {id},
  operation   text default 'build',
  message     text default '',
  ttl_seconds double precision default 30,
  request_id  uuid default null,
  holder      text default null
)
returns public.project_lock
language plpgsql
volatile
security definer
set search_path = ''
-- A plan that was made when a table was small must not scan it when it is large.
set enable_seqscan = off
as $$
{short way to lock}
  if event is not null then
    return (
      project_id, true, true, event, asks, operation, message, locked_at, expires_at, 0
    )::public.project_lock;
  end if;
  answer := buildlock.ask_to_lock(project, operation, message, ttl_seconds, request_id, holder);
  return (
    project_id, true, answer.outcome = 'held', answer.token, answer.holder, answer.operation, answer.message,
    to_timestamp(answer.acquired_at / 1000.0), to_timestamp(least(answer.claim_by, answer.expires_at) / 1000.0),
    coalesce(answer.queue_length, 0)::integer
  )::public.project_lock;
end
$$;

comment on function public.try_lock_project({id}, text, text, double precision, uuid, text) is
$comment$Locks a project, or tells who holds it: as lock_project, but to find it locked is no error.

mine says whether the caller has got it; token is then its token. If not, the rest tells who is in the way.

Raises what lock_project raises, save PROJECT_LOCKED.$comment$;

create or replace function public.renew_project_lock(
  project_id  {id},
  token       bigint,
  ttl_seconds double precision default null,
  holder      text default null
)
returns public.project_lease
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  answer buildlock.answer := buildlock.ask_about_lease(
    'renew', renew_project_lock.project_id::text, token, holder, ttl_seconds
  );
begin
  return (
    renew_project_lock.project_id, answer.token, answer.holder, answer.operation, answer.message,
    answer.ttl_ms / 1000.0, to_timestamp(answer.acquired_at / 1000.0), to_timestamp(answer.expires_at / 1000.0)
  )::public.project_lease;
end
$$;

comment on function public.renew_project_lock({id}, bigint, double precision, text) is
$comment$Extends a lease of the caller's own (the heartbeat): it lasts ttl_seconds from now on, or the lease's own TTL.

Raises LEASE_LOST (410) once the lease has ended: stop the work then. FORBIDDEN (403): the lease is somebody else's. PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401), STORE_UNAVAILABLE (503).$comment$;

create or replace function public.unlock_project(
  project_id {id},
  token      bigint,
  holder     text default null
)
returns public.ended_project_lease
language plpgsql
volatile
security definer
set search_path = ''
set enable_seqscan = off
as $$
{short way to unlock}
  if event is not null then
    return (
      project_id, token, this.holder, 'unlocked', to_timestamp(now_ms / 1000::double precision), this.holder, null
    )::public.ended_project_lease;
  end if;
  answer := buildlock.ask_about_lease('unlock', project, token, holder);
  return (
    project_id, answer.past_token, answer.past_holder, answer.past_how, to_timestamp(answer.past_at / 1000.0),
    answer.past_by, answer.past_reason
  )::public.ended_project_lease;
end
$$;

comment on function public.unlock_project({id}, bigint, text) is
$comment$Ends a lease of the caller's own. The next waiter is granted in the same transaction. Repeated, it succeeds.

Raises LEASE_LOST (410) where the lease ended in another way, FORBIDDEN (403) where it is somebody else's. PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401), STORE_UNAVAILABLE (503).$comment$;

create or replace function public.force_unlock_project(
  project_id {id},
  token      bigint,
  reason     text,
  holder     text default null
)
returns public.ended_project_lease
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  answer buildlock.answer := buildlock.ask_about_lease(
    'force_unlock', force_unlock_project.project_id::text, token, holder, null, reason
  );
begin
  return (
    force_unlock_project.project_id, answer.past_token, answer.past_holder, answer.past_how,
    to_timestamp(answer.past_at / 1000.0), answer.past_by, answer.past_reason
  )::public.ended_project_lease;
end
$$;

comment on function public.force_unlock_project({id}, bigint, text, text) is
$comment$Ends somebody's lease, on record. The next waiter is granted in the same transaction.

token is the lease's that was seen, so that nobody else's is hit by mistake. reason is kept in the history, with the caller's name; a service may name in holder for whom it does this. A project's owner may, and operators (app_metadata: {"buildlock_role": "operator"}) and services for every project.

Raises LEASE_LOST (410) where the lease has ended already. PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401), FORBIDDEN (403), STORE_UNAVAILABLE (503).$comment$;

create or replace function public.verify_project_lock(
  project_id {id},
  token      bigint
)
returns public.project_lease
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
  answer buildlock.answer := buildlock.ask_about_lease(
    'verify', verify_project_lock.project_id::text, token, null
  );
begin
  return (
    verify_project_lock.project_id, answer.token, answer.holder, answer.operation, answer.message,
    answer.ttl_ms / 1000.0, to_timestamp(answer.acquired_at / 1000.0),
    to_timestamp(least(answer.claim_by, answer.expires_at) / 1000.0)
  )::public.project_lease;
end
$$;

comment on function public.verify_project_lock({id}, bigint) is
$comment$Makes sure that a token is current: fencing for the transaction that writes what the lock protects.

Call it first in that transaction. Where the lease has ended it raises LEASE_LOST (410), and the transaction writes nothing. Where it lives, the lock cannot be granted to another before the transaction has ended.

Raises PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401), STORE_UNAVAILABLE (503) as well.$comment$;

create or replace function public.is_project_locked(project_id {id})
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  held buildlock.locks := buildlock.ask_who_holds(is_project_locked.project_id::text);
begin
  return held.token is not null;
end
$$;

comment on function public.is_project_locked({id}) is
$comment$Whether somebody holds the project just now.

To lock it, call lock_project without asking first: what is asked may have changed by then.

Raises PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401).$comment$;

create or replace function public.get_project_lock(project_id {id})
returns public.project_lock
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  held buildlock.locks := buildlock.ask_who_holds(get_project_lock.project_id::text);
begin
  return (
    get_project_lock.project_id, held.token is not null,
    held.token is not null and held.holder = (select caller.name from buildlock.caller() as caller),
    held.token, held.holder, held.operation, held.message, to_timestamp(held.acquired_at / 1000.0),
    to_timestamp(least(held.claim_by, held.expires_at) / 1000.0),
    (select count(*) from buildlock.tickets where tickets.project = get_project_lock.project_id::text)
  )::public.project_lock;
end
$$;

comment on function public.get_project_lock({id}) is
$comment$Who holds a project: the lease and its token, which force_unlock_project asks for, and how many wait.

Raises PROJECT_NOT_FOUND (404), INVALID_REQUEST (422), UNAUTHENTICATED (401).$comment$;

  $functions$, '{adopted}', is_adopted), '{id}', id_type);
end
$public$;
