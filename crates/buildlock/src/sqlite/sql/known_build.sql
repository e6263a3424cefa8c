select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from builds
where request = ?1 or id = ?2
order by request = ?1 desc
limit 1
