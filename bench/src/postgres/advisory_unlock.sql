select 0::bigint
where pg_advisory_unlock(hashtext($1))
  and $2 = 0::bigint
