update projects
set
  build_status = 'idle', locked_by = null, locked_at = null, token = null, request = null, operation = null,
  message = null, ttl_ms = null, expires_at = null, claim_by = null, last_event = ?2
where number = ?1
