-- Who may what. Said in full, since what a new function may be called by depends on the database: on Supabase by
-- every API role before October 2026, by none after it; in a plain PostgreSQL by everybody.

revoke all on schema buildlock from public;
revoke all on all tables in schema buildlock from public;
revoke all on all sequences in schema buildlock from public;
revoke all on all routines in schema buildlock from public;

do $privileges$
declare
  api_role text;
  called   record;
begin
  for api_role in
    select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role')
  loop
    execute format('revoke all on schema buildlock from %I', api_role);
    execute format('revoke all on all tables in schema buildlock from %I', api_role);
    execute format('revoke all on all sequences in schema buildlock from %I', api_role);
    execute format('revoke all on all routines in schema buildlock from %I', api_role);
  end loop;

  for called in
    select proc.oid::regprocedure as signature
    from pg_catalog.pg_proc as proc
    where proc.pronamespace = 'public'::regnamespace
      and proc.proname in (
        'lock_project', 'try_lock_project', 'renew_project_lock', 'unlock_project', 'force_unlock_project',
        'verify_project_lock', 'is_project_locked', 'get_project_lock'
      )
  loop
    execute format('revoke all on function %s from public', called.signature);
    for api_role in
      select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    loop
      execute format('revoke all on function %s from %I', called.signature, api_role);
      if api_role <> 'anon' then
        execute format('grant execute on function %s to %I', called.signature, api_role);
      end if;
    end loop;
  end loop;
end
$privileges$;
