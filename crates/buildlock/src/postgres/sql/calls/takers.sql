-- The transactions that have taken a number and have not ended: a sequence stays locked by whoever has used it.
select coalesce(array_agg(distinct virtualtransaction), '{}')
from pg_locks
where locktype = 'relation'
  and database = (select oid from pg_database where datname = current_database())
  and relation = 'buildlock.numbers'::regclass
