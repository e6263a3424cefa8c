-- The steps that decisions are made of. Each takes a project's row, which the caller has locked, and answers
-- with the row as it is afterwards; it writes events and tickets, and leaves the row for the caller to write.

-- buildlock.grant_lease(this, now_ms, request, …, claim_by) returns buildlock.locks
-- Grants the free project's lock. The lease's token is the number of the event (rule 2).
create or replace function buildlock.grant_lease(
  this      buildlock.locks,
  now_ms    bigint,
  request   uuid,
  holder    text,
  operation text,
  message   text,
  ttl_ms    bigint,
  claim_by  bigint
)
returns buildlock.locks
language plpgsql
volatile
set search_path = ''
as $$
begin
  this.token := nextval('buildlock.numbers');
  insert into buildlock.events (id, at, project, kind, holder, request, token, operation, message, previous)
  values (
    this.token, now_ms, this.project, 'granted', holder, request, this.token, operation, message, this.last_event
  );
  this.request := request;
  this.holder := holder;
  this.operation := operation;
  this.message := message;
  this.ttl_ms := ttl_ms;
  this.acquired_at := now_ms;
  this.expires_at := now_ms + ttl_ms;
  this.claim_by := claim_by;
  this.last_event := this.token;
  return this;
end
$$;

comment on function buildlock.grant_lease(buildlock.locks, bigint, uuid, text, text, text, bigint, bigint) is
  'Grants the free project''s lock. The lease''s token is the number of the event.';

-- buildlock.end_lease(this, at_ms, how, ended_by, reason) returns buildlock.locks
-- Ends the project's lease; tells whoever listens when its holder has not done it.
create or replace function buildlock.end_lease(
  this     buildlock.locks,
  at_ms    bigint,
  how      text,
  ended_by text,
  reason   text
)
returns buildlock.locks
language plpgsql
volatile
set search_path = ''
as $$
declare
  ended constant bigint := this.token;
begin
  insert into buildlock.events (id, at, project, kind, holder, request, token, operation, ended_by, reason, previous)
  values (
    nextval('buildlock.numbers'), at_ms, this.project, how, this.holder, this.request, this.token,
    this.operation, end_lease.ended_by, end_lease.reason, this.last_event
  )
  returning id into this.last_event;
  this.token := null;
  this.request := null;
  this.holder := null;
  this.operation := null;
  this.message := null;
  this.ttl_ms := null;
  this.acquired_at := null;
  this.expires_at := null;
  this.claim_by := null;
  if how <> 'unlocked' then
    perform pg_notify('buildlock', 'end ' || ended);
  end if;
  return this;
end
$$;

comment on function buildlock.end_lease(buildlock.locks, bigint, text, text, text) is
  'Ends the project''s lease; tells whoever listens when its holder has not done it.';

-- buildlock.hand_over(this, now_ms) returns buildlock.locks
-- Grants a free project to the first in its queue (rule 6), which must claim it within 5 seconds (rule 7).
create or replace function buildlock.hand_over(this buildlock.locks, now_ms bigint)
returns buildlock.locks
language plpgsql
volatile
set search_path = ''
as $$
declare
  first buildlock.tickets;
begin
  if this.token is not null or this.queue_length = 0 then
    return this;
  end if;
  delete from buildlock.tickets
  where tickets.project = this.project
    and tickets.number = (select min(number) from buildlock.tickets where tickets.project = this.project)
  returning * into first;
  this.queue_length := this.queue_length - 1;
  if this.queue_length = 0 then
    this.next_check := null;
  end if;
  this := buildlock.grant_lease(
    this, now_ms, first.request, first.holder, first.operation, first.message, first.ttl_ms, now_ms + 5000
  );
  perform pg_notify('buildlock', format('turn %s %s %s', this.request, this.token, this.acquired_at));
  return this;
end
$$;

comment on function buildlock.hand_over(buildlock.locks, bigint) is
  'Grants a free project to the first in its queue, which must claim it within 5 seconds.';

-- buildlock.settle(this, now_ms) returns buildlock.locks
-- Does what time has made due: ends the lease, drops dead tickets, grants to the next.
create or replace function buildlock.settle(this buildlock.locks, now_ms bigint)
returns buildlock.locks
language plpgsql
volatile
set search_path = ''
as $$
declare
  ends_at constant bigint := least(this.claim_by, this.expires_at);
  dead    buildlock.tickets;
begin
  if ends_at <= now_ms then
    this := buildlock.end_lease(
      this, ends_at, case when this.claim_by is null then 'expired' else 'unclaimed' end, null, null
    );
  end if;
  if this.next_check <= now_ms then
    for dead in
      select *
      from buildlock.tickets
      where tickets.project = this.project
        and tickets.alive_until <= now_ms
      order by tickets.number
    loop
      insert into buildlock.events (id, at, project, kind, holder, request, operation, message, previous)
      values (
        nextval('buildlock.numbers'), now_ms, this.project, 'dropped', dead.holder, dead.request, dead.operation,
        dead.message, this.last_event
      )
      returning id into this.last_event;
    end loop;
    delete from buildlock.tickets
    where tickets.project = this.project
      and tickets.alive_until <= now_ms;
    select count(*), min(tickets.alive_until) into this.queue_length, this.next_check
    from buildlock.tickets
    where tickets.project = this.project;
  end if;
  return buildlock.hand_over(this, now_ms);
end
$$;

comment on function buildlock.settle(buildlock.locks, bigint) is
  'Does what time has made due: ends the lease, drops dead tickets, grants to the next.';

-- buildlock.lock_row(project, owner) returns buildlock.locks
-- Locks the project's row, or makes it: of an adopted table's row, or, where none is adopted, for this owner.
-- Without a project where neither can be.
create or replace function buildlock.lock_row(project text, owner text)
returns buildlock.locks
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
as $$
declare
  this buildlock.locks;
begin
  loop
    select * into this
    from buildlock.locks
    where locks.project = lock_row.project
    for no key update;
    exit when found;
    if buildlock.is_adopted() then
      owner := buildlock.adopted_owner(project);
    end if;
    exit when owner is null;
    insert into buildlock.locks (project, owner)
    values (project, owner)
    on conflict do nothing
    returning * into this;
    exit when found;
    -- Somebody else has made it in the meantime.
  end loop;
  return this;
end
$$;

comment on function buildlock.lock_row(text, text) is
  'Locks the project''s row, or makes it: of an adopted table''s row, or, where none is adopted, for this owner.';

-- buildlock.save_row(before, this, is_due) returns void
-- Writes what has changed of a project's row, and tells the adopted table. due_at is moved back only when the
-- project was looked at because it was due: a busy project then changes the index on it once a TTL, not with
-- every lock and unlock, and its row is updated in place.
create or replace function buildlock.save_row(before buildlock.locks, this buildlock.locks, is_due boolean)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  deadline constant bigint := least(this.claim_by, this.expires_at, this.next_check);
begin
  if is_due or deadline < this.due_at or this.due_at is null then
    this.due_at := deadline;
  end if;
  if this is not distinct from before then
    return;
  end if;
  update buildlock.locks
  set
    holder = this.holder, acquired_at = this.acquired_at, token = this.token, request = this.request,
    operation = this.operation, message = this.message, ttl_ms = this.ttl_ms, expires_at = this.expires_at,
    claim_by = this.claim_by, queue_length = this.queue_length, next_check = this.next_check, due_at = this.due_at,
    first_event = coalesce(this.first_event, this.last_event), last_event = this.last_event
  where locks.project = this.project;
  if this.token is distinct from before.token then
    perform buildlock.project_changed(this.project, this.holder, this.acquired_at);
  end if;
end
$$;

comment on function buildlock.save_row(buildlock.locks, buildlock.locks, boolean) is
  'Writes what has changed of a project''s row, and tells the adopted table.';
