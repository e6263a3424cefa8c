select token, request, holder, kind, at, ended_by, reason
from events
where token = ?1 and kind <> 'granted' and project = ?2
