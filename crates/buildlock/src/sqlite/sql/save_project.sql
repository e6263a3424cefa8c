update projects
set
  build_status = ?2, locked_by = ?3, locked_at = ?4, token = ?5, request = ?6, operation = ?7, message = ?8,
  ttl_ms = ?9, expires_at = ?10, claim_by = ?11, due_at = ?12, last_event = ?13
where number = ?1
