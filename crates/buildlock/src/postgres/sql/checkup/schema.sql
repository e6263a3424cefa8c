-- Whether buildlock's schema is there, and whether whoever asks may use it. One row.
select
  to_regnamespace('buildlock') is not null as has_schema,
  to_regnamespace('buildlock') is not null and has_schema_privilege(to_regnamespace('buildlock'), 'usage') as may_use,
  exists (
    select
    from pg_class
    where relname = 'store' and relnamespace = to_regnamespace('buildlock')
  ) as has_store
