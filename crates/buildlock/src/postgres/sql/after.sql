-- What is left to do once the migration is committed, and can be done while others write to the adopted table.

do $after$
declare
  adoption buildlock.adoption;
  adopted  regclass;
  column_number smallint;
begin
  select * into adoption from buildlock.adoption;
  if adoption.table_name is null then
    return;
  end if;
  adopted := format('%I.%I', adoption.table_schema, adoption.table_name)::regclass;
  if exists (
    select 1
    from pg_catalog.pg_constraint
    where conrelid = adopted and conname = 'buildlock_build_status' and not convalidated
  ) then
    -- Reads the table, and holds up nobody.
    execute format('alter table %s validate constraint buildlock_build_status', adopted);
  end if;

  -- So that to delete a user is not to read the whole table. It is over the rows that are locked, so it is made
  -- in the time that it takes to read the table; where that is too long, make it concurrently beforehand.
  select attnum into column_number from pg_catalog.pg_attribute where attrelid = adopted and attname = 'locked_by';
  if exists (
    select 1
    from pg_catalog.pg_constraint
    where conrelid = adopted and contype = 'f' and conkey = array[column_number]
  ) and not exists (
    select 1 from pg_catalog.pg_index where indrelid = adopted and indisvalid and indkey[0] = column_number
  ) then
    for attempt in 1..200 loop
      begin
        set local lock_timeout = '40ms';
        execute format(
          'create index buildlock_locked_by on %s (locked_by) where locked_by is not null', adopted
        );
        exit;
      exception
        when lock_not_available or deadlock_detected then
          if attempt = 200 then
            raise exception 'the index on locked_by of % could not be made; all else is done', adopted
              using hint = 'Transactions that write to the table do not end; end them, and migrate again.';
          end if;
      end;
      perform pg_sleep(0.05 + random() / 10);
    end loop;
  end if;
end
$after$;
