-- Many commands at once.

-- buildlock.apply(at_ms, projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons,
-- if_locked) returns table (ordinal, …buildlock.answer)
-- Decides many commands in one transaction: the nth of each array is the nth command's, as buildlock.decide
-- takes them. They are decided in the order of their projects' names, those of one project in the order in which
-- they stand: so transactions that meet take their locks in the same order, and none waits for another that waits
-- for it. Each answer carries its command's place, from 1; they come in any order.
create or replace function buildlock.apply(
  at_ms      bigint,
  projects   text[],
  kinds      text[],
  requests   uuid[],
  tokens     bigint[],
  holders    text[],
  operations text[],
  messages   text[],
  ttls_ms    bigint[],
  reasons    text[],
  if_locked  text[]
)
returns table (
  ordinal      integer,
  outcome      text,
  now_ms       bigint,
  token        bigint,
  request      uuid,
  holder       text,
  operation    text,
  message      text,
  ttl_ms       bigint,
  acquired_at  bigint,
  expires_at   bigint,
  claim_by     bigint,
  queue_length bigint,
  ticket       bigint,
  "position"   bigint,
  past_token   bigint,
  past_request uuid,
  past_holder  text,
  past_how     text,
  past_at      bigint,
  past_by      text,
  past_reason  text,
  has_news     boolean
)
language plpgsql
volatile
set search_path = ''
set jit = off
as $$
begin
  return query
    select commands.ordinal::integer, answers.*
    from (
      select *
      from unnest(
        projects, kinds, requests, tokens, holders, operations, messages, ttls_ms, reasons, apply.if_locked
      ) with ordinality as command (
        project, kind, request, token, holder, operation, message, ttl_ms, reason, if_locked, ordinal
      )
      order by command.project collate "C", command.ordinal
    ) as commands
      cross join lateral buildlock.decide(
        at_ms, commands.project, commands.kind, commands.request, commands.token, commands.holder,
        commands.operation, commands.message, commands.ttl_ms, commands.reason, commands.if_locked
      ) as answers;
end
$$;

comment on function buildlock.apply(
  bigint, text[], text[], uuid[], bigint[], text[], text[], text[], bigint[], text[], text[]
) is
  'Decides many commands in one transaction, as buildlock.decide does each.';
