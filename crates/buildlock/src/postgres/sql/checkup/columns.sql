-- How many rows of the adopted table, {table}, say of the lock what is not so, and one of them; and how many
-- projects have a lock and no row. One row.
select
  count(*) as wrong,
  min(adopted.id::text) as one,
  (
    select count(*)
    from buildlock.locks
    where not exists (select from {table} as there where there.id::text = locks.project)
  ) as without_row
from {table} as adopted left join buildlock.locks on locks.project = adopted.id::text
where (adopted.build_status, adopted.locked_by, adopted.locked_at) is distinct from (
  case when locks.token is null then 'idle' else 'processing' end,
  buildlock.locked_by(locks.holder),
  to_timestamp(locks.acquired_at / 1000.0)
)
