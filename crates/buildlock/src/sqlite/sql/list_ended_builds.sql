select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from builds
where ended_at >= ?1 and is_deleted = 0
order by ended_at desc, number desc
limit ?2
