select
  number, owner, locked_by, locked_at, token, request, operation, message, ttl_ms, expires_at, claim_by,
  due_at, last_event, id
from projects
