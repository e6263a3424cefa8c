-- Whoever keeps a project's row locked, such as a transaction that verifies its token, must not hold up all that
-- travel together for long.
select
  answers.ordinal, answers.outcome, answers.now_ms, answers.token, answers.request, answers.holder,
  answers.operation, answers.message, answers.ttl_ms, answers.acquired_at, answers.expires_at, answers.claim_by,
  answers.queue_length, answers.ticket, answers.position, answers.past_token, answers.past_request,
  answers.past_holder, answers.past_how, answers.past_at, answers.past_by, answers.past_reason, answers.has_news
from (select set_config('lock_timeout', '1000', true)) as patience (lock_timeout)
  cross join lateral buildlock.apply(
    case when patience.lock_timeout <> '' then $1::bigint end,
    $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
  ) as answers
