update projects
set expires_at = ?2, claim_by = ?3, last_event = ?4
where number = ?1
