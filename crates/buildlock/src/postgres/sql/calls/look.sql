-- What became of these requests and of these leases.
select id, at, project, kind, holder, request, token, operation, message, ended_by, reason
from buildlock.events
where kind = 'granted'
  and request = any ($1)
union all
select id, at, project, kind, holder, request, token, operation, message, ended_by, reason
from buildlock.events
where kind <> 'granted'
  and token = any ($2)
