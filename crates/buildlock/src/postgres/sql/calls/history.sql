select id, at, project, kind, holder, request, token, operation, message, ended_by, reason
from buildlock.history($1, $2, $3)
