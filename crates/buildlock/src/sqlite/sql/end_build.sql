update builds
set status = ?2, exit_code = ?3, reason = ?4, ended_at = ?5
where id = ?1 and status = 'running' and is_deleted = 0
