-- From a call of a public function to the engine and back: who may, what is valid, what is answered.

-- buildlock.checked_text(field, value, least_chars, most_bytes, most_chars, allowed) returns text
-- The text; raises INVALID_REQUEST unless it is within its bounds and without control characters.
create or replace function buildlock.checked_text(
  field       text,
  value       text,
  least_chars integer,
  most_bytes  integer,
  most_chars  integer,
  allowed     text
)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  problem constant text := case
    when value is null then 'is missing'
    when length(value) < least_chars then 'is empty'
    when octet_length(value) > most_bytes then format('is %s bytes long', octet_length(value))
    when length(value) > most_chars then format('is longer than %s characters', most_chars)
    when value ~ '[\u0001-\u001f\u007f-\u009f]' then 'has a control character'
  end;
begin
  if problem is not null then
    perform buildlock.refuse_value(field, problem, allowed);
  end if;
  return value;
end
$$;

comment on function buildlock.checked_text(text, text, integer, integer, integer, text) is
  'The text; raises INVALID_REQUEST unless it is within its bounds and without control characters.';

-- buildlock.checked_name(field, value) returns text
-- The text; raises INVALID_REQUEST unless it can name a project or a holder.
create or replace function buildlock.checked_name(field text, value text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
  return buildlock.checked_text(field, value, 1, 200, 200, '1 to 200 bytes of UTF-8 without control characters');
end
$$;

comment on function buildlock.checked_name(text, text) is
  'The text; raises INVALID_REQUEST unless it can name a project or a holder.';

-- buildlock.checked_token(token) returns bigint
-- The number; raises INVALID_REQUEST unless it can be a fencing token.
create or replace function buildlock.checked_token(token bigint)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  if token is null or token not between 1 and 9007199254740991 then
    perform buildlock.refuse_value(
      'token', coalesce('is ' || token, 'is missing'), 'a whole number from 1 to 2^53 - 1'
    );
  end if;
  return token;
end
$$;

comment on function buildlock.checked_token(bigint) is
  'The number; raises INVALID_REQUEST unless it can be a fencing token.';

-- buildlock.ttl_ms(seconds) returns bigint
-- A TTL in milliseconds, parts of one dropped; raises INVALID_REQUEST unless it is 1 second to 24 hours.
create or replace function buildlock.ttl_ms(seconds double precision)
returns bigint
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- Not a number is greater than all numbers.
  if seconds not between 1 and 86400 then
    perform buildlock.refuse_value('ttl_seconds', format('is %s', seconds), '1 to 86400');
  end if;
  return trunc(seconds * 1000)::bigint;
end
$$;

comment on function buildlock.ttl_ms(double precision) is
  'A TTL in milliseconds, parts of one dropped; raises INVALID_REQUEST unless it is 1 second to 24 hours.';

-- buildlock.is_hidden(project, caller_kind, caller_name) returns boolean
-- Whether a user asks about what is not its own: to it that is as what is not there.
create or replace function buildlock.is_hidden(project text, caller_kind text, caller_name text)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return caller_kind = 'user' and buildlock.owner_of(project) is distinct from caller_name;
end
$$;

comment on function buildlock.is_hidden(text, text, text) is
  'Whether a user asks about what is not its own: to it that is as what is not there.';

-- buildlock.speaks_for(caller_kind, caller_name, named) returns text
-- In whose name the caller asks: a user in its own; an operator and a service also in another's, whom it names.
create or replace function buildlock.speaks_for(caller_kind text, caller_name text, named text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if named is null or named = caller_name then
    return caller_name;
  end if;
  if caller_kind = 'user' then
    perform buildlock.refuse(
      403, 'FORBIDDEN', 'a user speaks for itself only', 'leave out the holder', jsonb_build_object('field', 'holder')
    );
  end if;
  return buildlock.checked_name('holder', named);
end
$$;

comment on function buildlock.speaks_for(text, text, text) is
  'In whose name the caller asks: a user in its own; an operator and a service also in another''s, whom it names.';

-- buildlock.decide_soon(kind, project, …) returns buildlock.answer
-- buildlock.decide for a call that is not to wait: raises STORE_UNAVAILABLE when another transaction has the
-- project in hand for longer than a moment. That is one that verified its lease and goes on writing, or one
-- that has changed the project's row in the adopted table.
create or replace function buildlock.decide_soon(
  kind      text,
  project   text,
  request   uuid default null,
  token     bigint default null,
  holder    text default null,
  operation text default null,
  message   text default null,
  ttl_ms    bigint default null,
  reason    text default null
)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
-- Shorter than the time-outs of Supabase's API roles, longer than any transaction of buildlock's own.
set lock_timeout = '1s'
as $$
declare
  answer buildlock.answer;
begin
  answer := buildlock.decide(
    null, project, kind, coalesce(request, gen_random_uuid()), token, holder, operation, message, ttl_ms, reason,
    'refuse'
  );
  return answer;
exception
  when lock_not_available or deadlock_detected then
    perform buildlock.refuse_for_now(project);
end
$$;

comment on function buildlock.decide_soon(text, text, uuid, bigint, text, text, text, bigint, text) is
  'buildlock.decide for a call that is not to wait: raises STORE_UNAVAILABLE when the project is in hand for longer.';

-- buildlock.ask_to_lock(project, operation, message, ttl_seconds, request_id, holder) returns buildlock.answer
-- A lock request of a public function's caller; outcome is held, locked or queue_full, all else is raised.
create or replace function buildlock.ask_to_lock(
  project     text,
  operation   text,
  message     text,
  ttl_seconds double precision,
  request_id  uuid,
  holder      text
)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
as $$
declare
  caller record;
  asks   text;
  ttl_ms bigint;
  owner  text;
  answer buildlock.answer;
begin
  caller := buildlock.caller();
  project := buildlock.checked_name('project_id', project);
  asks := buildlock.speaks_for(caller.kind, caller.name, holder);
  operation := buildlock.checked_text(
    'operation', operation, 1, 64, 64, '1 to 64 bytes of UTF-8 without control characters'
  );
  message := buildlock.checked_text(
    'message', coalesce(message, ''), 0, 2000, 500, 'up to 500 characters without control characters'
  );
  ttl_ms := buildlock.ttl_ms(coalesce(ttl_seconds, 30));
  if caller.kind = 'user' then
    owner := buildlock.owner_of(project);
    -- What is nobody's yet may be locked, where no table is adopted: it comes into being.
    if owner <> caller.name then
      perform buildlock.refuse_unknown(project);
    end if;
  end if;
  answer := buildlock.decide_soon('lock', project, request_id, null, asks, operation, message, ttl_ms);
  -- Somebody else may have made the project in the meantime. An error takes all back.
  if caller.kind = 'user' and owner is null and answer.outcome <> 'unknown_project'
    and buildlock.is_hidden(project, caller.kind, caller.name)
  then
    perform buildlock.refuse_unknown(project);
  end if;
  if answer.outcome not in ('held', 'locked', 'queue_full') then
    perform buildlock.refuse_answer(project, answer);
  end if;
  return answer;
end
$$;

comment on function buildlock.ask_to_lock(text, text, text, double precision, uuid, text) is
  'A lock request of a public function''s caller; outcome is held, locked or queue_full, all else is raised.';

-- buildlock.ask_about_lease(kind, project, token, holder, ttl_seconds, reason) returns buildlock.answer
-- renew, unlock, force_unlock or verify for a public function's caller; outcome is held or ended, all else is
-- raised.
create or replace function buildlock.ask_about_lease(
  kind        text,
  project     text,
  token       bigint,
  holder      text,
  ttl_seconds double precision default null,
  reason      text default null
)
returns buildlock.answer
language plpgsql
volatile
set search_path = ''
as $$
declare
  caller record;
  asks   text;
  answer buildlock.answer;
begin
  caller := buildlock.caller();
  project := buildlock.checked_name('project_id', project);
  token := buildlock.checked_token(token);
  asks := buildlock.speaks_for(caller.kind, caller.name, holder);
  if kind in ('renew', 'unlock') and caller.kind = 'service' and holder is null then
    asks := coalesce(buildlock.holder_of(project, token, null), asks);
  end if;
  if kind = 'force_unlock' then
    reason := buildlock.checked_text(
      'reason', reason, 1, 2000, 500, '1 to 500 characters without control characters'
    );
  end if;
  if caller.kind = 'user' and buildlock.is_hidden(project, caller.kind, caller.name) then
    perform buildlock.refuse_unknown(project);
  end if;
  answer := buildlock.decide_soon(
    kind, project, null, token, asks, null, null,
    case when ttl_seconds is not null then buildlock.ttl_ms(ttl_seconds) end, reason
  );
  if answer.outcome not in ('held', 'ended') then
    perform buildlock.refuse_answer(project, answer);
  end if;
  return answer;
end
$$;

comment on function buildlock.ask_about_lease(text, text, bigint, text, double precision, text) is
  'renew, unlock, force_unlock or verify for a public function''s caller; all but held and ended is raised.';

-- buildlock.ask_who_holds(project) returns buildlock.locks
-- The project's lock for a public function's caller; without a holder where no lease lives. Changes nothing.
create or replace function buildlock.ask_who_holds(project text)
returns buildlock.locks
language plpgsql
stable
set search_path = ''
as $$
declare
  caller record;
  held   buildlock.locks;
begin
  caller := buildlock.caller();
  project := buildlock.checked_name('project_id', project);
  if buildlock.owner_of(project) is null or buildlock.is_hidden(project, caller.kind, caller.name) then
    perform buildlock.refuse_unknown(project);
  end if;
  select * into held
  from buildlock.locks
  where locks.project = ask_who_holds.project
    and buildlock.now_ms() < least(locks.claim_by, locks.expires_at);
  return held;
end
$$;

comment on function buildlock.ask_who_holds(text) is
  'The project''s lock for a public function''s caller; without a holder where no lease lives. Changes nothing.';
