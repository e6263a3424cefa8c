select
  outcome, now_ms, token, request, holder, operation, message, ttl_ms, acquired_at, expires_at, claim_by, queue_length
from buildlock.delete_project($1, $2, $3)
