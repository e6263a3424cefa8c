-- Takes buildlock out of a database: its schema, with all locks and their history, its functions, its triggers,
-- and the columns that it has added to the adopted table. The platform's own rows and columns stay.
--
-- An object of the platform's own that needs one of these, such as a view that reads build_status, keeps all of
-- this from being done, and is named.

set local statement_timeout = 0;
set local search_path = '';
select pg_advisory_xact_lock(7094144170453118819);

do $down$
declare
  adoption record;
  adopted  regclass;
  dropped  record;
  attempt  integer := 0;
begin
  if to_regclass('buildlock.adoption') is null then
    return;
  end if;
  for dropped in
    select proc.oid::regprocedure as signature
    from pg_catalog.pg_proc as proc
    where proc.pronamespace = 'public'::regnamespace
      and proc.prosrc like '%buildlock.%'
      and proc.proname in (
        'lock_project', 'try_lock_project', 'renew_project_lock', 'unlock_project', 'force_unlock_project',
        'verify_project_lock', 'is_project_locked', 'get_project_lock'
      )
  loop
    execute 'drop function ' || dropped.signature;
  end loop;
  drop type if exists public.project_lease;
  drop type if exists public.project_lock;
  drop type if exists public.ended_project_lease;

  select * into adoption from buildlock.adoption;
  adopted := to_regclass(format('%I.%I', adoption.table_schema, adoption.table_name));
  if adopted is not null then
    loop
      attempt := attempt + 1;
      begin
        set local lock_timeout = '40ms';
        execute format('lock table %s in access exclusive mode', adopted);
        exit;
      exception
        when lock_not_available or deadlock_detected then
          if attempt = 200 then
            raise exception 'the table % is in use by transactions that do not end; nothing was changed', adopted
              using hint = 'Look for them in pg_stat_activity, end them or wait for them, and try again.';
          end if;
      end;
      perform pg_sleep(0.05 + random() / 10);
    end loop;
    for dropped in
      select tgname from pg_catalog.pg_trigger where tgrelid = adopted and tgname like 'buildlock\_%'
    loop
      execute format('drop trigger %I on %s', dropped.tgname, adopted);
    end loop;
    execute format('alter table %s drop constraint if exists buildlock_build_status', adopted);
    if not 'build_status' = any (adoption.added_columns) then
      -- The column is the platform's own, and says what it said before: nobody builds.
      execute format(
        'update %s set build_status = ''idle'', locked_by = null, locked_at = null where build_status <> ''idle''',
        adopted
      );
    end if;
    execute format('drop index if exists %I.buildlock_locked_by', adoption.table_schema);
    for dropped in
      select unnest(adoption.added_columns) as name
    loop
      execute format('alter table %s drop column if exists %I', adopted, dropped.name);
    end loop;
  end if;
  drop schema buildlock cascade;
end
$down$;
