select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from buildlock.builds
where project = $1 and id < $2 and not is_deleted
order by id desc
limit $3
