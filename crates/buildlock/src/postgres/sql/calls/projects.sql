select
  project, owner, now_ms, token, request, holder, operation, message, ttl_ms, acquired_at, expires_at, claim_by,
  ticket_numbers, ticket_requests, ticket_holders, ticket_operations, ticket_messages, ticket_ttls_ms, queued_at,
  alive_until
from buildlock.projects($1, $2, $3)
