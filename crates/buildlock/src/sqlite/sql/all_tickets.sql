select
  tickets.number, tickets.request, tickets.holder, tickets.operation, tickets.message, tickets.ttl_ms,
  tickets.queued_at, tickets.alive_until, projects.id
from tickets
join projects on projects.number = tickets.project
