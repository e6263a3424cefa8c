select
  id, at, project, kind, holder, request, token, operation, message, ended_by, reason, snapshot_xmin, snapshot_xmax
from buildlock.events_after($1, $2)
