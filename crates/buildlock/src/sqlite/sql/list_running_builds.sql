select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from builds
where status = 'running' and is_deleted = 0
order by id
