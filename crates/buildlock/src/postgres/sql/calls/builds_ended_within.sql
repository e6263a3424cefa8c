select
  id, project, operation, holder, token, request, status, exit_code, reason, started_at, ended_at, log_lines
from buildlock.builds
where ended_at >= coalesce($1, buildlock.now_ms()) - $2 and not is_deleted
order by ended_at desc, id desc
limit $3
