-- The store's clock (rule 10).

-- buildlock.now_ms() returns bigint
-- Now, in whole milliseconds since the Unix epoch.
create or replace function buildlock.now_ms()
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
begin
  return floor(date_part('epoch', clock_timestamp()) * 1000);
end
$$;

comment on function buildlock.now_ms() is
  'Now, in whole milliseconds since the Unix epoch.';
