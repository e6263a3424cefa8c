-- The functions that there are, with their schemas, and what they say.
select pg_namespace.nspname || '.' || proc.proname as name, proc.prosrc as source
from pg_proc as proc join pg_namespace on pg_namespace.oid = proc.pronamespace
where pg_namespace.nspname = 'buildlock'
  or pg_namespace.nspname = 'public' and proc.prosrc like '%buildlock.%'
