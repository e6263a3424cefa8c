select number, request, holder, operation, message, ttl_ms, queued_at, alive_until
from tickets
where project = ?1
order by number
