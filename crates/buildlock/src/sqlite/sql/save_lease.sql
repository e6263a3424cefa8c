update projects
set
  build_status = 'processing', locked_by = ?2, locked_at = ?3, token = ?4, request = ?5, operation = ?6, message = ?7,
  ttl_ms = ?8, expires_at = ?9, claim_by = ?10, last_event = ?11
where number = ?1
