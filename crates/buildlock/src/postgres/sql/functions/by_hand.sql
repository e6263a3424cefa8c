-- What is done to a project with plain SQL, made real (rule 13).

-- buildlock.by_whom() returns text
-- Who is at work: the signed-in user, or else the database's.
create or replace function buildlock.by_whom()
returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', session_user)
$$;

comment on function buildlock.by_whom() is
  'Who is at work: the signed-in user, or else the database''s.';

-- buildlock.free_by_hand(project) returns void
-- Ends the project's lease, on record, and grants to the first waiter. Does nothing where there is no lease.
create or replace function buildlock.free_by_hand(project text)
returns void
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
-- Whoever updates the adopted table has its row already, and a lock that is just changing wants it: rather than
-- have one of the two ended as a deadlock, which takes a second, let it be this one.
set lock_timeout = '500ms'
as $$
declare
  before buildlock.locks;
  this   buildlock.locks;
  now_ms bigint;
begin
  if not exists (
    select from buildlock.locks where locks.project = free_by_hand.project and locks.token is not null
  ) then
    return;
  end if;
  select * into before from buildlock.locks where locks.project = free_by_hand.project for no key update;
  now_ms := buildlock.now_ms();
  this := before;
  if now_ms < least(this.claim_by, this.expires_at) then
    this := buildlock.end_lease(
      this, greatest(now_ms, this.acquired_at), 'freed_by_hand', buildlock.by_whom(), null
    );
  end if;
  this := buildlock.settle(this, now_ms);
  perform buildlock.save_row(before, this, false);
exception
  when lock_not_available then
    raise exception 'the lock of the project % is changing just now; nothing was changed', project
      using errcode = 'lock_not_available', hint = 'Run the same statement again.';
end
$$;

comment on function buildlock.free_by_hand(text) is
  'Ends the project''s lease, on record, and grants to the first waiter. Does nothing where there is no lease.';

-- buildlock.remove_by_hand(project) returns void
-- Takes a project away whatever its state: its lease and its tickets end on record.
create or replace function buildlock.remove_by_hand(project text)
returns void
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
set lock_timeout = '500ms'
as $$
declare
  this    buildlock.locks;
  ticket  buildlock.tickets;
  now_ms  bigint;
  ends_at bigint;
begin
  select * into this from buildlock.locks where locks.project = remove_by_hand.project for update;
  if not found then
    return;
  end if;
  now_ms := greatest(buildlock.now_ms(), this.acquired_at);
  ends_at := least(this.claim_by, this.expires_at);
  if now_ms < ends_at then
    this := buildlock.end_lease(this, now_ms, 'freed_by_hand', buildlock.by_whom(), null);
  elsif this.token is not null then
    this := buildlock.end_lease(
      this, ends_at, case when this.claim_by is null then 'expired' else 'unclaimed' end, null, null
    );
  end if;
  for ticket in
    select * from buildlock.tickets where tickets.project = this.project order by tickets.number
  loop
    insert into buildlock.events (id, at, project, kind, holder, request, operation, message, previous)
    values (
      nextval('buildlock.numbers'), now_ms, this.project, 'dropped', ticket.holder, ticket.request, ticket.operation,
      ticket.message, this.last_event
    )
    returning id into this.last_event;
  end loop;
  insert into buildlock.events (id, at, project, kind, holder, previous)
  values (nextval('buildlock.numbers'), now_ms, this.project, 'deleted', buildlock.by_whom(), this.last_event);
  delete from buildlock.locks where locks.project = this.project;
exception
  when lock_not_available then
    raise exception 'the lock of the project % is changing just now; nothing was changed', project
      using errcode = 'lock_not_available', hint = 'Run the same statement again.';
end
$$;

comment on function buildlock.remove_by_hand(text) is
  'Takes a project away whatever its state: its lease and its tickets end on record.';

-- The projects, as an operator reads and frees them where no table is adopted, with the names of one that is.
create or replace view buildlock.projects as
select
  locks.project as id,
  locks.owner,
  case when locks.token is null then 'idle' else 'processing' end as build_status,
  locks.holder as locked_by,
  to_timestamp(locks.acquired_at / 1000.0) as locked_at,
  locks.operation,
  locks.message,
  locks.token,
  to_timestamp(least(locks.claim_by, locks.expires_at) / 1000.0) as expires_at
from buildlock.locks;

comment on view buildlock.projects is
  'The projects and their locks. To free one: update buildlock.projects set build_status = ''idle'' where id = ….';

-- buildlock.projects_by_hand() returns trigger
-- Trigger instead of an update or a delete of buildlock.projects: an update to idle frees the project.
create or replace function buildlock.projects_by_hand()
returns trigger
language plpgsql
volatile
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    perform buildlock.remove_by_hand(old.id);
    return old;
  end if;
  if old.build_status = 'processing' and new.build_status = 'idle' and new.id = old.id and new.owner = old.owner then
    perform buildlock.free_by_hand(old.id);
    return new;
  end if;
  if new is distinct from old then
    raise exception 'the project % is only freed by hand, and only locked by a lease', old.id
      using hint = 'To free it, set build_status to idle; to lock it, call lock_project.';
  end if;
  return new;
end
$$;

comment on function buildlock.projects_by_hand() is
  'Trigger: an update of buildlock.projects to idle frees the project, a delete takes it away, on record.';

create or replace trigger by_hand
instead of update or delete on buildlock.projects
for each row
execute function buildlock.projects_by_hand();
