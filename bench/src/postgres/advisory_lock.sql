select 0::bigint
where pg_try_advisory_lock(hashtext($1))
