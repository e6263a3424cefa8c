select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from builds
where project = ?1 and id < ?2 and is_deleted = 0
order by id desc
limit ?3
