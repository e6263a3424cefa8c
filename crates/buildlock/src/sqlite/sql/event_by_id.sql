select id, at, project, kind, holder, request, token, operation, message, ended_by, reason, previous
from events
where id = ?1
