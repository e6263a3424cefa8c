-- The locks. One row. $1: how long, in milliseconds, something may be due before it is overdue.
select
  count(*) as projects,
  count(*) filter (where locks.token is not null) as held,
  coalesce(sum(locks.queue_length), 0)::bigint as waiting,
  count(*) filter (where num_nulls(locks.token, locks.holder, locks.expires_at) not in (0, 3)) as torn,
  count(*) filter (where locks.due_at < buildlock.now_ms() - $1) as overdue,
  (select count(*) from buildlock.tickets) as tickets,
  (select store.version from buildlock.store) as version,
  (select store.keep_events_ms from buildlock.store) as keep_events_ms,
  (select store.keep_events_count from buildlock.store) as keep_events_count,
  (select greatest(reltuples, 0)::bigint from pg_class where oid = 'buildlock.events'::regclass) as events,
  pg_total_relation_size('buildlock.events') as event_bytes,
  (select count(*) from buildlock.builds where ended_at is null and not is_deleted) as running_builds,
  (select count(*) from buildlock.builds where ended_at is not null and not is_deleted) as ended_builds,
  pg_total_relation_size('buildlock.build_log') as log_bytes,
  (select count(*) from buildlock.servers where seen_at > buildlock.now_ms() - 10000) as servers
from buildlock.locks
