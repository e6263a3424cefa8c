select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from buildlock.builds
where ended_at is null and not is_deleted
order by id
