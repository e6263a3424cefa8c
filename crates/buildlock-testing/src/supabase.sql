-- Supabase's roles, its schema auth and what else a migration meets there, in a plain PostgreSQL. Roles belong to
-- the whole cluster, so they may be there already. Since October 2026 Supabase grants nothing by default.

do $$
begin
  perform pg_advisory_xact_lock(7310012);
  if exists (select from pg_catalog.pg_roles where rolname = 'authenticator') then
    return;
  end if;
  -- On Supabase this one is no superuser.
  if not exists (select from pg_catalog.pg_roles where rolname = 'postgres') then
    create role postgres login createrole createdb replication bypassrls;
  end if;
  create role anon nologin inherit;
  create role authenticated nologin inherit;
  create role service_role nologin inherit bypassrls;
  create role authenticator login noinherit;
  create role supabase_auth_admin login noinherit createrole;
  grant anon, authenticated, service_role to authenticator;
  grant anon, authenticated, service_role to postgres with admin option;
  alter role anon set statement_timeout = '3s';
  alter role authenticated set statement_timeout = '8s';
  alter role authenticator set statement_timeout = '8s';
  alter role authenticator set lock_timeout = '8s';
end
$$;

do $$
begin
  execute format('grant create on database %I to postgres', current_database());
end
$$;

create schema auth authorization supabase_auth_admin;
create schema extensions;
grant usage on schema public, extensions to postgres, anon, authenticated, service_role;
grant create on schema public to postgres;

create table auth.users (
  instance_id        uuid,
  id                 uuid not null primary key,
  aud                varchar(255),
  role               varchar(255),
  email              varchar(255),
  encrypted_password varchar(255),
  raw_app_meta_data  jsonb,
  raw_user_meta_data jsonb,
  is_anonymous       boolean not null default false,
  created_at         timestamptz,
  updated_at         timestamptz
);
alter table auth.users owner to supabase_auth_admin;
grant usage on schema auth to postgres, anon, authenticated, service_role;
grant select, insert, update, delete, references, trigger on auth.users to postgres;

create function auth.jwt()
returns jsonb
language sql
stable
as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;

create function auth.uid()
returns uuid
language sql
stable
as $$ select (auth.jwt() ->> 'sub')::uuid $$;

create function auth.role()
returns text
language sql
stable
as $$ select auth.jwt() ->> 'role' $$;

create publication supabase_realtime;
