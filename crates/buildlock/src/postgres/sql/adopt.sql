-- Adopts the platform's own table of projects: checks it, and makes what buildlock asks and tells it
-- (functions/adopted.sql) and its triggers' functions. The table itself is left to adopt_table.sql.
--
-- Which table: the settings buildlock.adopt and buildlock.owner_column of this transaction. Not set: that which
-- is adopted already, if any.

do $adopt$
declare
  wanted      text := nullif(current_setting('buildlock.adopt', true), '');
  owner_name  text := nullif(current_setting('buildlock.owner_column', true), '');
  before      buildlock.adoption;
  adopted     regclass;
  class       record;
  id_type     text;
  has_users   constant boolean := to_regclass('auth.users') is not null;
  table_name  text;
  holder_type text;
  id_of       text;   -- how a text is made into an id; null where it is none
  value       text;
begin
  insert into buildlock.adoption (id) values (true) on conflict do nothing;
  select * into before from buildlock.adoption;
  if wanted is null and before.table_name is null then
    return;
  end if;

  wanted := coalesce(wanted, format('%I.%I', before.table_schema, before.table_name));
  adopted := to_regclass(wanted);
  if adopted is null then
    raise exception 'there is no table %; nothing was changed', wanted
      using hint = 'Name it with its schema, as in public.projects.';
  end if;
  select pg_class.relname, pg_namespace.nspname, pg_class.relkind, pg_class.relowner, pg_class.relforcerowsecurity
  into class
  from pg_catalog.pg_class
    join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
  where pg_class.oid = adopted;
  if before.table_name is not null and (before.table_schema, before.table_name) <> (class.nspname, class.relname) then
    raise exception 'the table %.% is adopted already, and buildlock adopts one; nothing was changed',
      before.table_schema, before.table_name;
  end if;
  table_name := format('%I.%I', class.nspname, class.relname);
  if class.relkind <> 'r' then
    raise exception '% is no ordinary table; nothing was changed', adopted;
  end if;
  if not pg_has_role(class.relowner, 'usage') then
    raise exception '% belongs to %, and % may not change it; nothing was changed',
      adopted, class.relowner::regrole, current_user
      using hint = format('Migrate as %s.', class.relowner::regrole);
  end if;
  if class.relforcerowsecurity
    and not (select rolsuper or rolbypassrls from pg_catalog.pg_roles where rolname = current_user)
  then
    raise exception '% forces its policies on its owner too, so that buildlock could not write to it', adopted
      using hint = 'Migrate as a role with BYPASSRLS, or alter the table: no force row level security.';
  end if;

  -- The id.
  select format_type(attribute.atttypid, null)
  into id_type
  from pg_catalog.pg_attribute as attribute
  where attribute.attrelid = adopted and attribute.attname = 'id' and not attribute.attisdropped;
  if id_type = 'character varying' then
    id_type := 'text';
  elsif id_type = 'integer' then
    id_type := 'bigint';
  end if;
  if id_type is null or id_type not in ('uuid', 'text', 'bigint') then
    raise exception '% has no column "id" of type uuid, text or bigint; nothing was changed', adopted;
  end if;
  if not exists (
    select 1
    from pg_catalog.pg_index as index
    where index.indrelid = adopted and index.indisunique and index.indisvalid and index.indpred is null
      and index.indnkeyatts = 1
      and index.indkey[0] = (
        select attnum from pg_catalog.pg_attribute where attrelid = adopted and attname = 'id'
      )
  ) then
    raise exception 'the column "id" of % is not unique; nothing was changed', adopted
      using hint = 'Make it the primary key.';
  end if;

  -- The owner.
  owner_name := coalesce(owner_name, before.owner_column, 'user_id');
  if not exists (
    select 1
    from pg_catalog.pg_attribute as attribute
    where attribute.attrelid = adopted and attribute.attname = owner_name and attribute.attnum > 0
      and not attribute.attisdropped
  ) then
    raise exception '% has no column "%" to tell whose a project is; nothing was changed', adopted, owner_name
      using hint = 'Name the column with --owner-column.';
  end if;

  -- The columns that may be there already, from a lock that was made at home.
  select case when has_users or format_type(attribute.atttypid, null) = 'uuid' then 'uuid' else 'text' end
  into holder_type
  from pg_catalog.pg_attribute as attribute
  where attribute.attrelid = adopted and attribute.attname = owner_name;
  for class in
    select attribute.attname, format_type(attribute.atttypid, null) as is_type, wants.types
    from pg_catalog.pg_attribute as attribute
      join (
        values
          ('build_status', array['text', 'character varying']),
          ('locked_by', array[holder_type]),
          ('locked_at', array['timestamp with time zone'])
      ) as wants (name, types) on wants.name = attribute.attname
    where attribute.attrelid = adopted and not attribute.attisdropped
  loop
    if class.is_type <> all (class.types) then
      raise exception 'the column "%" of % is of type %, not %; nothing was changed',
        class.attname, adopted, class.is_type, class.types[1]
        using hint = 'Rename that column, or change its type.';
    end if;
  end loop;
  if before.table_name is null and exists (
    select 1 from pg_catalog.pg_attribute where attrelid = adopted and attname = 'build_status' and not attisdropped
  ) then
    execute format(
      'select build_status from %s where build_status not in (''idle'', ''processing'') limit 1', adopted
    ) into value;
    if value is not null then
      raise exception 'the column "build_status" of % has "%" in it; nothing was changed', adopted, value
        using hint = 'buildlock''s build_status is idle or processing; rename yours.';
    end if;
  end if;

  -- Whom a holder is in the column locked_by: a user that exists, where there are users. Null: nobody there.
  if to_regprocedure('buildlock.locked_by(text)')::regproc is not null and holder_type::regtype <> (
    select prorettype from pg_catalog.pg_proc where oid = to_regprocedure('buildlock.locked_by(text)')
  ) then
    drop function buildlock.locked_by(text);
  end if;
  value := case
    when holder_type = 'text' then 'holder'
    else 'case when holder ~* ''^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'' then holder::uuid end'
  end;
  if has_users then
    value := format('(select users.id from auth.users where users.id = %s)', value);
  end if;
  execute replace(replace($function$
    create or replace function buildlock.locked_by(holder text)
    returns {type}
    language plpgsql
    stable
    set search_path = ''
    as $$
    begin
      return {value};
    end
    $$;
    comment on function buildlock.locked_by(text) is
      'What the adopted table''s column locked_by says of a holder: null where it is no user that exists.';
  $function$, '{type}', holder_type), '{value}', value);

  -- An id is one text only, or a project could have two locks.
  id_of := case id_type
    when 'uuid' then
      'case when {text} ~ ''^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'' then {text}::uuid end'
    when 'bigint' then
      'case when {text} ~ ''^(0|-?[1-9][0-9]{0,18})$'' then '
        'case when {text}::numeric between -9223372036854775808 and 9223372036854775807 then {text}::bigint end end'
    else '{text}'
  end;

  execute replace(replace(replace(replace(replace(replace($functions$
    create or replace function buildlock.is_adopted()
    returns boolean
    language plpgsql
    stable
    set search_path = ''
    as $$
    begin
      return true;
    end
    $$;

    create or replace function buildlock.adopted_owner(project text)
    returns text
    language plpgsql
    stable
    set search_path = ''
    as $$
    begin
      return (
        select adopted.{owner}::text
        from {table} as adopted
        where adopted.id = {owner's id}
      );
    end
    $$;

    create or replace function buildlock.take_adopted(project text)
    returns boolean
    language plpgsql
    volatile
    set search_path = ''
    as $$
    begin
      perform from {table} as adopted where adopted.id = {taken id} for no key update skip locked;
      return found or not exists (select from {table} as adopted where adopted.id = {taken id});
    end
    $$;

    create or replace function buildlock.project_changed(project text, holder text, acquired_at bigint)
    returns void
    language plpgsql
    volatile
    set search_path = ''
    as $$
    #variable_conflict use_variable
    declare
      new_status constant text := case when holder is null then 'idle' else 'processing' end;
      new_holder constant {type} := buildlock.locked_by(holder);
      new_time   constant timestamptz := to_timestamp(acquired_at / 1000.0);
    begin
      update {table} as adopted
      set build_status = new_status, locked_by = new_holder, locked_at = new_time
      where adopted.id = {changed id}
        and (adopted.build_status, adopted.locked_by, adopted.locked_at)
          is distinct from (new_status, new_holder, new_time);
    end
    $$;

    -- Trigger on insert and update, with the rights of whoever writes: API roles do not write the lock's columns.
    -- It must get by without the schema buildlock, which they do not reach.
    create or replace function buildlock.refuse_api_roles()
    returns trigger
    language plpgsql
    set search_path = ''
    as $$
    begin
      if current_user not in ('anon', 'authenticated', 'service_role') and not exists (
        select 1
        from pg_catalog.pg_auth_members as member
        where member.roleid = current_user::regrole and member.member = to_regrole('authenticator')
      ) then
        return new;
      end if;
      -- An upsert of a row that is there ends as an update, and is looked at then.
      if tg_op = 'INSERT' and exists (select 1 from {table} as adopted where adopted.id = new.id) then
        return new;
      end if;
      raise sqlstate 'PGRST' using
        message = json_build_object(
          'code', 'FORBIDDEN',
          'message', 'build_status, locked_by and locked_at are written by buildlock only',
          'details', json_build_object('project', new.id::text)::text,
          'hint', 'Call lock_project, unlock_project or force_unlock_project.'
        )::text,
        detail = json_build_object('status', 403, 'headers', json_build_object())::text;
    end
    $$;

    -- Trigger before insert and update: what the columns say must be what buildlock.locks says, or an operator
    -- frees the project (rule 13), which is made real after the update.
    create or replace function buildlock.keep_project_true()
    returns trigger
    language plpgsql
    security definer
    set search_path = ''
    as $$
    declare
      held buildlock.locks;
    begin
      select * into held from buildlock.locks where locks.project = new.id::text;
      if tg_op = 'UPDATE' then
        if old.id is distinct from new.id and exists (
          select 1 from buildlock.locks where locks.project = old.id::text and locks.token is not null
        ) then
          raise exception 'the project % is held, so its id stays as it is', old.id
            using hint = 'Set its build_status to idle first.';
        end if;
        if new.build_status = 'idle' and old.build_status = 'processing' then
          new.locked_by := null;
          new.locked_at := null;
        end if;
        if (new.build_status, new.locked_by, new.locked_at) is not distinct from ('idle', null, null) then
          return new;
        end if;
        -- Also what a foreign key does when the user is deleted.
        if (new.build_status, new.locked_at) is not distinct from (old.build_status, old.locked_at)
          and new.locked_by is null
        then
          return new;
        end if;
      elsif exists (select 1 from {table} as adopted where adopted.id = new.id) then
        return new;
      end if;
      if held.token is not null
        and new.build_status = 'processing'
        and new.locked_at is not distinct from to_timestamp(held.acquired_at / 1000.0)
        and new.locked_by is not distinct from buildlock.locked_by(held.holder)
      then
        return new;
      end if;
      raise exception 'the project % is only locked by a lease', new.id
        using hint = 'Call lock_project; to free a project, set its build_status to idle.';
    end
    $$;

    -- Trigger after the update that frees a project, be it buildlock's own, or by hand.
    create or replace function buildlock.project_freed()
    returns trigger
    language plpgsql
    security definer
    set search_path = ''
    as $$
    begin
      -- buildlock's own unlock has ended the lease by now.
      if exists (select from buildlock.locks where locks.project = new.id::text and locks.token is not null) then
        perform buildlock.free_by_hand(new.id::text);
      end if;
      return null;
    end
    $$;

    -- Trigger after the update that gives a project to another.
    create or replace function buildlock.owner_changed()
    returns trigger
    language plpgsql
    security definer
    set search_path = ''
    as $$
    begin
      update buildlock.locks set owner = new.{owner}::text where locks.project = new.id::text;
      return null;
    end
    $$;

    -- Trigger after a row was deleted, or got another id: its lock goes with it.
    create or replace function buildlock.project_gone()
    returns trigger
    language plpgsql
    security definer
    set search_path = ''
    as $$
    begin
      perform buildlock.remove_by_hand(old.id::text);
      return null;
    end
    $$;

    -- Trigger after all rows have gone at once.
    create or replace function buildlock.projects_truncated()
    returns trigger
    language plpgsql
    security definer
    set search_path = ''
    as $$
    begin
      perform buildlock.remove_by_hand(locks.project) from buildlock.locks;
      return null;
    end
    $$;

    comment on function buildlock.refuse_api_roles() is
      'Trigger: API roles do not write the lock''s columns of the adopted table.';
    comment on function buildlock.keep_project_true() is
      'Trigger: the lock''s columns of the adopted table say what buildlock.locks says, or free the project.';
    comment on function buildlock.project_freed() is
      'Trigger: an update that frees a project by hand is made real.';
    comment on function buildlock.owner_changed() is
      'Trigger: a project that is given to another is the other''s to lock.';
    comment on function buildlock.project_gone() is
      'Trigger: a row that is deleted takes its lock with it, on record.';
    comment on function buildlock.projects_truncated() is
      'Trigger: rows that are truncated take their locks with them, on record.';
  $functions$, '{table}', table_name), '{owner}', quote_ident(owner_name)), '{type}', holder_type),
    '{owner''s id}', replace(id_of, '{text}', 'adopted_owner.project')),
    '{changed id}', replace(id_of, '{text}', 'project_changed.project')),
    '{taken id}', replace(id_of, '{text}', 'take_adopted.project'));

  update buildlock.adoption
  set (table_schema, table_name, owner_column, project_type) = (
    select pg_namespace.nspname, pg_class.relname, owner_name, id_type
    from pg_catalog.pg_class
      join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
    where pg_class.oid = adopted
  )
  where id;
end
$adopt$;
