select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from buildlock.builds
where id < $1 and not is_deleted
order by id desc
limit $2
