update keys
set revoked_at = coalesce(revoked_at, ?2)
where number = ?1
