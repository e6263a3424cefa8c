-- The adopted table. One row.
select
  adoption.table_name is not null as is_adopted,
  format('%I.%I', adoption.table_schema, adoption.table_name) as name,
  to_regclass(format('%I.%I', adoption.table_schema, adoption.table_name)) is not null as is_there,
  (
    select count(*)
    from pg_trigger
    where tgrelid = to_regclass(format('%I.%I', adoption.table_schema, adoption.table_name))
      and tgname like 'buildlock\_%' and tgenabled in ('O', 'A')
  ) as triggers
from buildlock.adoption
