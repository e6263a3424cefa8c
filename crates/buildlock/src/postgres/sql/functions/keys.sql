-- The keys of the servers' clients.

-- buildlock.add_key(at_ms, hash, owner, role) returns setof buildlock.keys
-- Puts a key on record; one that is on record already stays as it is. No row if it was revoked: a key never
-- becomes valid again.
create or replace function buildlock.add_key(at_ms bigint, hash bytea, owner text, role text)
returns setof buildlock.keys
language plpgsql
volatile
set search_path = ''
as $$
#variable_conflict use_column
begin
  insert into buildlock.keys (hash, owner, role, created_at)
  values (add_key.hash, add_key.owner, add_key.role, coalesce(at_ms, buildlock.now_ms()))
  on conflict (hash) do nothing;
  return query
    select keys.*
    from buildlock.keys
    where keys.hash = add_key.hash and keys.revoked_at is null;
end
$$;

comment on function buildlock.add_key(bigint, bytea, text, text) is
  'Puts a key on record; one that is on record already stays as it is. No row if it was revoked: a key never becomes '
  'valid again.';

-- buildlock.revoke_key(at_ms, number) returns boolean
-- Revokes a key, for ever; false if there never was one with that number.
create or replace function buildlock.revoke_key(at_ms bigint, number bigint)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  update buildlock.keys
  set revoked_at = coalesce(keys.revoked_at, at_ms, buildlock.now_ms())
  where keys.number = revoke_key.number;
  return found;
end
$$;

comment on function buildlock.revoke_key(bigint, bigint) is
  'Revokes a key, for ever; false if there never was one with that number.';
