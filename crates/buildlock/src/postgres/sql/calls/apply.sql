select
  answers.ordinal, answers.outcome, answers.now_ms, answers.token, answers.request, answers.holder,
  answers.operation, answers.message, answers.ttl_ms, answers.acquired_at, answers.expires_at, answers.claim_by,
  answers.queue_length, answers.ticket, answers.position, answers.past_token, answers.past_request,
  answers.past_holder, answers.past_how, answers.past_at, answers.past_by, answers.past_reason, answers.has_news
from buildlock.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as answers
