-- Who calls a public function, and what they may do.

-- buildlock.caller() returns (kind, name)
-- kind is user, operator or service.
--   user      a signed-in user: PostgREST has checked its token and left the claims; name is the claim sub,
--             as auth.uid() gives it. It sees and locks its own projects.
--   operator  a user whose app_metadata says {"buildlock_role": "operator"}. It sees, locks and frees all.
--   service   the role service_role, or a direct connection without claims. It may name whom it acts for.
-- Raises UNAUTHENTICATED where an API role brings no user along.
create or replace function buildlock.caller(out kind text, out name text)
language plpgsql
stable
set search_path = ''
as $$
declare
  -- What SET ROLE says, which a function with its owner's rights leaves as it is.
  acting text := current_setting('role');
  claims jsonb := nullif(current_setting('request.jwt.claims', true), '');
begin
  if acting = 'service_role' or (claims is null and acting not in ('anon', 'authenticated')) then
    kind := 'service';
    name := case when acting = 'none' then session_user else acting end;
    return;
  end if;
  name := coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), claims ->> 'sub');
  if name is null or name = '' or acting = 'anon' then
    perform buildlock.refuse(
      401, 'UNAUTHENTICATED', 'this takes a signed-in user', 'sign in, and send the user''s access token',
      jsonb_build_object()
    );
  end if;
  kind := case
    when claims -> 'app_metadata' ->> 'buildlock_role' = 'operator' then 'operator'
    else 'user'
  end;
end
$$;

comment on function buildlock.caller() is
  'Who calls: kind is user, operator (app_metadata.buildlock_role) or service; name is the user''s id, or the role.';

-- buildlock.holder_of(project, token, named) returns text
-- In whose name a service speaks of a lease: whom it names, or else whoever has or had the lease.
create or replace function buildlock.holder_of(project text, token bigint, named text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce(
    named,
    (select locks.holder from buildlock.locks where locks.project = holder_of.project and locks.token = holder_of.token),
    (
      select events.holder
      from buildlock.events
      where events.id = holder_of.token and events.kind = 'granted' and events.project = holder_of.project
    )
  );
end
$$;

comment on function buildlock.holder_of(text, bigint, text) is
  'In whose name a service speaks of a lease: whom it names, or else whoever has or had the lease.';

-- buildlock.owner_of(project) returns text
-- Whose project it is; null: there is no such project.
create or replace function buildlock.owner_of(project text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if buildlock.is_adopted() then
    return buildlock.adopted_owner(project);
  end if;
  return (select locks.owner from buildlock.locks where locks.project = owner_of.project);
end
$$;

comment on function buildlock.owner_of(text) is
  'Whose project it is; null: there is no such project.';
