with granted as (
  insert into buildlock.events (id, at, project, kind, holder, request, token, operation, message)
  select number, buildlock.now_ms(), gen_random_uuid()::text, 'granted', 'bench', gen_random_uuid(), number, 'build', ''
  from (
    select nextval('buildlock.numbers') as number
    from generate_series(1, $1::bigint)
  ) as numbers
  returning *
)
insert into buildlock.locks (
  project, owner, holder, acquired_at, token, request, operation, message, ttl_ms, expires_at, due_at, first_event,
  last_event
)
select
  project, holder, holder, at, token, request, operation, message, 86400000, at + 86400000, at + 86400000, id, id
from granted
