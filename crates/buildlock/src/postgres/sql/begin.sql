-- The start of a migration, which is one transaction: all of it, or nothing.

-- Two migrations at once would each make what the other makes.
set local statement_timeout = 0;
set local lock_timeout = 0;
set local search_path = '';
select pg_advisory_xact_lock(7094144170453118819);

-- The version of the tables that there are; 0: none.
do $version$
declare
  version integer;
begin
  if current_setting('server_version_num')::integer < 140000 then
    raise exception 'this is PostgreSQL %, and buildlock needs 14 or newer', current_setting('server_version');
  end if;
  if to_regclass('buildlock.store') is not null then
    select store.version into version from buildlock.store;
  elsif to_regnamespace('buildlock') is not null then
    raise exception 'there is a schema buildlock that is not buildlock''s; nothing was changed'
      using hint = 'Rename it, and migrate again.';
  end if;
  if version > current_setting('buildlock.newest')::integer then
    raise exception 'the tables have version %, this program knows up to %; nothing was changed',
      version, current_setting('buildlock.newest')
      using hint = 'Use a newer buildlock.';
  end if;
  perform set_config('buildlock.version', coalesce(version, 0)::text, true);
end
$version$;
