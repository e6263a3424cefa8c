-- How a public function refuses: an error that PostgREST makes into the answer that the HTTP API gives too, with
-- the same codes (DESIGN.md, section 5).

-- buildlock.iso_time(ms) returns text
-- A time of the lock's tables as RFC 3339, UTC, whatever the session's time zone.
create or replace function buildlock.iso_time(ms bigint)
returns text
language sql
immutable
set search_path = ''
as $$
  select to_char(to_timestamp(ms / 1000.0) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

comment on function buildlock.iso_time(bigint) is
  'A time of the lock''s tables as RFC 3339, UTC, whatever the session''s time zone.';

-- buildlock.refuse(status, code, message, hint, details, retry_after_s) never returns
-- Raises SQLSTATE PGRST: PostgREST answers with this status, code, message and hint, and with details as JSON
-- text, which supabase-js has as error.details. A client does not see headers, so Retry-After is in details
-- as well.
create or replace function buildlock.refuse(
  status        integer,
  code          text,
  message       text,
  hint          text,
  details       jsonb,
  retry_after_s integer default null
)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if retry_after_s is not null then
    details := details || jsonb_build_object('retryAfter', retry_after_s);
  end if;
  raise sqlstate 'PGRST' using
    message = json_build_object('code', code, 'message', message, 'details', details::text, 'hint', hint)::text,
    detail = json_build_object(
      'status', status,
      'headers', case
        when retry_after_s is null then json_build_object()
        else json_build_object('Retry-After', retry_after_s::text)
      end
    )::text;
end
$$;

comment on function buildlock.refuse(integer, text, text, text, jsonb, integer) is
  'Raises SQLSTATE PGRST: PostgREST answers with this status, code, message and hint, and with details as JSON text.';

-- buildlock.refuse_value(field, problem, allowed) never returns
-- INVALID_REQUEST, 422: names the field, what is wrong, what is allowed.
create or replace function buildlock.refuse_value(field text, problem text, allowed text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  perform buildlock.refuse(
    422, 'INVALID_REQUEST', field || ' ' || problem || '; allowed: ' || allowed, null,
    jsonb_build_object('field', field, 'allowed', allowed)
  );
end
$$;

comment on function buildlock.refuse_value(text, text, text) is
  'INVALID_REQUEST, 422: names the field, what is wrong, what is allowed.';

-- buildlock.refuse_unknown(project) never returns
-- PROJECT_NOT_FOUND, 404: there is no such project, or it is not the caller's to see.
create or replace function buildlock.refuse_unknown(project text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  perform buildlock.refuse(
    404, 'PROJECT_NOT_FOUND', 'there is no such project, or it is not yours', null,
    jsonb_build_object('project', project)
  );
end
$$;

comment on function buildlock.refuse_unknown(text) is
  'PROJECT_NOT_FOUND, 404: there is no such project, or it is not the caller''s to see.';

-- buildlock.refuse_for_now(project) never returns
-- STORE_UNAVAILABLE, 503: another transaction has the project in hand, such as one that verified its lease and
-- has not committed yet. Nothing was changed.
create or replace function buildlock.refuse_for_now(project text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  perform buildlock.refuse(
    503, 'STORE_UNAVAILABLE', 'another transaction has this project in hand just now; nothing was changed',
    'try again', jsonb_build_object('project', project), 1
  );
end
$$;

comment on function buildlock.refuse_for_now(text) is
  'STORE_UNAVAILABLE, 503: another transaction has the project in hand. Nothing was changed.';

-- buildlock.lock_details(answer) returns jsonb
-- The live lease of an answer, as the HTTP API's problem details show it; null: the project is free.
create or replace function buildlock.lock_details(answer buildlock.answer)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case
    when answer.token is null then null
    else jsonb_build_object(
      'token', answer.token,
      'holder', answer.holder,
      'operation', answer.operation,
      'message', answer.message,
      'lockedAt', buildlock.iso_time(answer.acquired_at),
      'expiresAt', buildlock.iso_time(least(answer.claim_by, answer.expires_at)),
      'queueLength', coalesce(answer.queue_length, 0)
    )
  end
$$;

comment on function buildlock.lock_details(buildlock.answer) is
  'The live lease of an answer, as the HTTP API''s problem details show it; null: the project is free.';

-- buildlock.refuse_answer(project, answer) never returns
-- The refusal that an answer of buildlock.decide is: PROJECT_LOCKED 409, LEASE_LOST 410, FORBIDDEN 403,
-- INVALID_REQUEST 422 or PROJECT_NOT_FOUND 404.
create or replace function buildlock.refuse_answer(project text, answer buildlock.answer)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  held    jsonb := buildlock.lock_details(answer);
  details jsonb := jsonb_strip_nulls(jsonb_build_object('project', project, 'lock', held));
begin
  case
    when answer.outcome in ('locked', 'queue_full') then
      perform buildlock.refuse(
        409, 'PROJECT_LOCKED',
        format('the project is busy: %s holds it for "%s"', answer.holder, answer.operation),
        'try again later; the owner or an operator can end the lease with force_unlock_project',
        details,
        -- As long as such a lease lasts, but a caller looks in now and then: it may end sooner.
        greatest(1, least(30, (least(answer.claim_by, answer.expires_at) - answer.acquired_at) / 1000))::integer
      );
    when answer.outcome = 'lost' then
      perform buildlock.refuse(
        410, 'LEASE_LOST',
        format(
          'the lease with token %s has ended: %s%s', answer.past_token, replace(answer.past_how, '_', ' '),
          coalesce(' by ' || answer.past_by, '')
        ),
        'stop the work: whatever it still writes would be on top of the next build',
        details || jsonb_build_object('lease', jsonb_strip_nulls(jsonb_build_object(
          'token', answer.past_token,
          'holder', answer.past_holder,
          'how', answer.past_how,
          'endedAt', buildlock.iso_time(answer.past_at),
          'by', answer.past_by,
          'reason', answer.past_reason
        )))
      );
    when answer.outcome = 'not_holder' then
      perform buildlock.refuse(
        403, 'FORBIDDEN', format('the lease is somebody else''s: %s holds it', answer.holder), null, details
      );
    when answer.outcome = 'never_granted' then
      perform buildlock.refuse(
        422, 'INVALID_REQUEST', 'this project never had a lease with that token', null,
        details || jsonb_build_object('field', 'token')
      );
    when answer.outcome = 'request_reused' then
      perform buildlock.refuse(
        422, 'INVALID_REQUEST',
        'request_id was used before with another holder, operation, message or TTL; use a new one', null,
        details || jsonb_build_object('field', 'request_id')
      );
    when answer.outcome = 'unknown_project' then
      perform buildlock.refuse_unknown(project);
    else
      raise exception 'the outcome % is no refusal', answer.outcome;
  end case;
end
$$;

comment on function buildlock.refuse_answer(text, buildlock.answer) is
  'The refusal that an answer of buildlock.decide is, as an error that PostgREST understands.';
