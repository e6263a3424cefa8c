select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from buildlock.leases_without_build($1, $2)
