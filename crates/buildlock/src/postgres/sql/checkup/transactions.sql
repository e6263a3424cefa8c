-- Transactions that have been open for longer than $1 milliseconds, the oldest first, and how many sessions cannot
-- be seen. What they hold up: an event that one of them may still write, and the space of rows that were changed.
select
  'process ' || pid || coalesce(' of ' || usename, '') || coalesce(' (' || nullif(application_name, '') || ')', '')
    as who,
  (extract(epoch from clock_timestamp() - xact_start) * 1000)::bigint as open_ms,
  state = 'idle in transaction' as is_idle
from pg_stat_activity
where backend_type = 'client backend'
  and pid <> pg_backend_pid()
  and xact_start < clock_timestamp() - $1 * interval '1 millisecond'
  and (backend_xid is not null or backend_xmin is not null)
union all
select
  'the prepared transaction ' || quote_literal(gid),
  (extract(epoch from clock_timestamp() - prepared) * 1000)::bigint,
  true
from pg_prepared_xacts
where database = current_database() and prepared < clock_timestamp() - $1 * interval '1 millisecond'
order by open_ms desc
limit 5
