-- Who may what, and should not, or should and may not. Nobody but the owner reaches the schema; users and services,
-- but no anonymous caller, call the functions in public.
with
  api_role as (
    select oid, rolname::text as name from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    union all
    select 0, 'PUBLIC'
  ),
  called as (
    select proc.oid, proc.proname::text as name, coalesce(proc.proacl, acldefault('f', proc.proowner)) as rights
    from pg_proc as proc
    where proc.pronamespace = to_regnamespace('public')
      and proc.proname in (
        'lock_project', 'try_lock_project', 'renew_project_lock', 'unlock_project', 'force_unlock_project',
        'verify_project_lock', 'is_project_locked', 'get_project_lock'
      )
      and proc.prosrc like '%buildlock.%'
  ),
  reached as (
    select 'schema buildlock' as what, acl.grantee
    from pg_namespace, aclexplode(nspacl) as acl
    where nspname = 'buildlock'
    union
    select 'buildlock.' || class.relname, acl.grantee
    from pg_class as class, aclexplode(class.relacl) as acl
    where class.relnamespace = to_regnamespace('buildlock')
    union
    select 'buildlock.' || proc.proname, acl.grantee
    from pg_proc as proc, aclexplode(coalesce(proc.proacl, acldefault('f', proc.proowner))) as acl
    where proc.pronamespace = to_regnamespace('buildlock')
  )
select api_role.name || ' reaches ' || reached.what as problem
from reached join api_role on api_role.oid = reached.grantee
union all
select api_role.name || ' may call public.' || called.name
from called join api_role on api_role.name in ('anon', 'PUBLIC')
where exists (select from aclexplode(called.rights) as acl where acl.grantee = api_role.oid)
union all
select api_role.name || ' may not call public.' || called.name
from called join api_role on api_role.name in ('authenticated', 'service_role')
where to_regnamespace('auth') is not null   -- elsewhere a role of that name may be anything
  and not exists (select from aclexplode(called.rights) as acl where acl.grantee in (api_role.oid, 0))
order by problem
