select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from buildlock.end_build($1, $2, $3, $4, $5)
