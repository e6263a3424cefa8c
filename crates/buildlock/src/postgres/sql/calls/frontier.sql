-- How far the history has come after an event: the newest seen, and the last that is reached without a gap.
select
  max(id),
  max(id) filter (where id - place = $1),
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint
from (
  select events.id, row_number() over (order by events.id) as place
  from buildlock.events
  where events.id > $1
  order by events.id
  limit $2
) as page
