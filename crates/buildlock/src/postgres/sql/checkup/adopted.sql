-- The adopted table. One row, where there is one.
select
  adopted.name,
  to_regclass(adopted.name) is not null as is_there,
  (
    select count(*)
    from pg_trigger
    where tgrelid = to_regclass(adopted.name) and tgname like 'buildlock\_%' and tgenabled in ('O', 'A')
  ) as triggers
from (
  select format('%I.%I', table_schema, table_name) as name
  from buildlock.adoption
  where table_name is not null
) as adopted
