-- Projects: seen, made, deleted, counted.

-- buildlock.status_of(this, now_ms) returns buildlock.status
-- What a project's row and its tickets tell at a time: leases and tickets that are over by then are left out. It is
-- stable, so that it sees the tickets as they were when the row was read.
create or replace function buildlock.status_of(this buildlock.locks, now_ms bigint)
returns buildlock.status
language plpgsql
stable
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  status buildlock.status;
begin
  if this.queue_length > 0 then
    select
      array_agg(number order by number), array_agg(request order by number), array_agg(holder order by number),
      array_agg(operation order by number), array_agg(message order by number), array_agg(ttl_ms order by number),
      array_agg(tickets.queued_at order by number), array_agg(tickets.alive_until order by number)
    into
      status.ticket_numbers, status.ticket_requests, status.ticket_holders, status.ticket_operations,
      status.ticket_messages, status.ticket_ttls_ms, status.queued_at, status.alive_until
    from buildlock.tickets
    where tickets.project = this.project
      and tickets.alive_until > status_of.now_ms;
  end if;
  status.project := this.project;
  status.owner := this.owner;
  status.now_ms := now_ms;
  if now_ms < least(this.claim_by, this.expires_at) then
    status.token := this.token;
    status.request := this.request;
    status.holder := this.holder;
    status.operation := this.operation;
    status.message := this.message;
    status.ttl_ms := this.ttl_ms;
    status.acquired_at := this.acquired_at;
    status.expires_at := this.expires_at;
    status.claim_by := this.claim_by;
  end if;
  status.ticket_numbers := coalesce(status.ticket_numbers, '{}');
  status.ticket_requests := coalesce(status.ticket_requests, '{}');
  status.ticket_holders := coalesce(status.ticket_holders, '{}');
  status.ticket_operations := coalesce(status.ticket_operations, '{}');
  status.ticket_messages := coalesce(status.ticket_messages, '{}');
  status.ticket_ttls_ms := coalesce(status.ticket_ttls_ms, '{}');
  status.queued_at := coalesce(status.queued_at, '{}');
  status.alive_until := coalesce(status.alive_until, '{}');
  return status;
end
$$;

comment on function buildlock.status_of(buildlock.locks, bigint) is
  'What a project''s row and its tickets tell at a time.';

-- buildlock.project_status(at_ms, project) returns setof buildlock.status
-- The project as it is now; no row: there is no such project. Changes nothing.
create or replace function buildlock.project_status(at_ms bigint, project text)
returns setof buildlock.status
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  unlocked buildlock.locks;
begin
  return query
    select status.*
    from buildlock.locks
      cross join lateral buildlock.status_of(locks, coalesce(at_ms, buildlock.now_ms())) as status
    where locks.project = project_status.project;
  if not found and buildlock.is_adopted() then
    unlocked.project := project;
    unlocked.owner := buildlock.adopted_owner(project);
    if unlocked.owner is not null then
      return next buildlock.status_of(unlocked, coalesce(at_ms, buildlock.now_ms()));
    end if;
  end if;
end
$$;

comment on function buildlock.project_status(bigint, text) is
  'The project as it is now; no row: there is no such project. Changes nothing.';

-- buildlock.projects(at_ms, after, at_most) returns setof buildlock.status
-- Projects in the order of their ids, from the first after this one; null: from the first of all. Changes nothing.
create or replace function buildlock.projects(at_ms bigint, after text, at_most integer)
returns setof buildlock.status
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
begin
  return query
    select status.*
    from (
      select *
      from buildlock.locks
      where locks.project > coalesce(after, '')
      order by locks.project
      limit at_most
    ) as locks
      cross join lateral buildlock.status_of(locks, coalesce(at_ms, buildlock.now_ms())) as status;
end
$$;

comment on function buildlock.projects(bigint, text, integer) is
  'Projects in the order of their ids, from the first after this one. Changes nothing.';

-- buildlock.create_project(at_ms, project, owner) returns boolean
-- Makes a project; false: it exists. Where a table is adopted, projects are made there, and this refuses.
create or replace function buildlock.create_project(at_ms bigint, project text, owner text)
returns boolean
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  before buildlock.locks;
  this   buildlock.locks;
begin
  if buildlock.is_adopted() then
    if buildlock.adopted_owner(project) is not null then
      return false;
    end if;
    raise exception 'the project % is made in the adopted table, not here', project
      using errcode = 'object_not_in_prerequisite_state';
  end if;
  insert into buildlock.locks (project, owner)
  values (create_project.project, create_project.owner)
  on conflict do nothing
  returning * into before;
  if not found then
    return false;
  end if;
  this := before;
  insert into buildlock.events (id, at, project, kind, holder)
  values (
    nextval('buildlock.numbers'), coalesce(at_ms, buildlock.now_ms()), create_project.project, 'created',
    create_project.owner
  )
  returning id into this.last_event;
  perform buildlock.save_row(before, this, false);
  return true;
end
$$;

comment on function buildlock.create_project(bigint, text, text) is
  'Makes a project; false: it exists.';

-- buildlock.delete_project(at_ms, project, deleted_by) returns buildlock.answer
-- Deletes a project that is idle. outcome: done, locked (by whom, and how many wait) or unknown_project. Its
-- history is kept; an adopted table's row is not touched.
create or replace function buildlock.delete_project(at_ms bigint, project text, deleted_by text)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set jit = off
as $$
declare
  answer buildlock.answer;
  this   buildlock.locks;
begin
  answer := buildlock.decide(at_ms, project, 'settle', null, null, null, null, null, null, null, null);
  if answer.outcome = 'unknown_project' then
    return answer;
  end if;
  select * into this
  from buildlock.locks
  where locks.project = delete_project.project;
  if this.token is not null then
    answer.outcome := 'locked';
    return buildlock.with_lease(answer, this);
  end if;
  insert into buildlock.events (id, at, project, kind, holder, previous)
  values (
    nextval('buildlock.numbers'), answer.now_ms, delete_project.project, 'deleted', delete_project.deleted_by,
    this.last_event
  );
  delete from buildlock.locks
  where locks.project = delete_project.project;
  return answer;
end
$$;

comment on function buildlock.delete_project(bigint, text, text) is
  'Deletes a project that is idle. outcome: done, locked or unknown_project.';

-- buildlock.counts() returns table (held, waiting)
-- How many projects are locked, and how many wait in all queues.
create or replace function buildlock.counts()
returns table (held bigint, waiting bigint)
language sql
stable
set search_path = ''
as $$
  select
    (select count(*) from buildlock.locks where token is not null),
    (select coalesce(sum(queue_length), 0)::bigint from buildlock.locks where queue_length > 0)
$$;

comment on function buildlock.counts() is
  'How many projects are locked, and how many wait in all queues.';
