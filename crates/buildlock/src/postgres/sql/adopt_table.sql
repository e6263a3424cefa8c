-- Changes the adopted table itself: the three columns and the triggers. It comes last in its transaction, since
-- nobody reads or writes the table from here to the commit, which are milliseconds: nothing here reads a row.

do $adopt_table$
declare
  adoption  buildlock.adoption;
  adopted   regclass;
  has_users constant boolean := to_regclass('auth.users') is not null;
  missing   text[];   -- which of the three columns are to be added
  triggers  bigint;   -- how many of its triggers there are
  attempt   integer := 0;
begin
  select * into adoption from buildlock.adoption;
  if adoption.table_name is null then
    return;
  end if;
  adopted := format('%I.%I', adoption.table_schema, adoption.table_name)::regclass;
  select coalesce(array_agg(wanted.name), '{}')
  into missing
  from unnest(array['build_status', 'locked_by', 'locked_at']) as wanted (name)
  where not exists (
    select 1
    from pg_catalog.pg_attribute as attribute
    where attribute.attrelid = adopted and attribute.attname = wanted.name and not attribute.attisdropped
  );
  select count(*) into triggers from pg_catalog.pg_trigger where tgrelid = adopted and tgname like 'buildlock\_%';
  if missing = '{}' and triggers = 9 then
    return;
  end if;

  -- Whoever waits for a table has all that come later wait too. So this waits for a moment only, lets the others
  -- through, and tries again.
  loop
    attempt := attempt + 1;
    begin
      set local lock_timeout = '40ms';
      if has_users and 'locked_by' = any (missing) then
        lock table auth.users in share row exclusive mode;
      end if;
      execute format('lock table %s in access exclusive mode', adopted);
      exit;
    exception
      when lock_not_available or deadlock_detected then
        if attempt = 200 then
          raise exception 'the table % is in use by transactions that do not end; nothing was changed', adopted
            using hint = 'Look for them in pg_stat_activity, end them or wait for them, and migrate again.';
        end if;
    end;
    perform pg_sleep(0.05 + random() / 10);
  end loop;

  if 'build_status' = any (missing) then
    execute format('alter table %s add column build_status text not null default ''idle''', adopted);
  else
    execute format('alter table %s alter column build_status set default ''idle''', adopted);
  end if;
  if not exists (
    select 1 from pg_catalog.pg_constraint where conrelid = adopted and conname = 'buildlock_build_status'
  ) then
    -- Validated after the commit.
    execute format(
      'alter table %s add constraint buildlock_build_status check (build_status in (''idle'', ''processing'')) not valid',
      adopted
    );
  end if;
  if 'locked_by' = any (missing) then
    execute format(
      'alter table %s add column locked_by %s', adopted,
      case
        when has_users then 'uuid constraint buildlock_locked_by references auth.users (id) on delete set null'
        else (
          select format_type(prorettype, null)
          from pg_catalog.pg_proc
          where oid = 'buildlock.locked_by(text)'::regprocedure
        )
      end
    );
  end if;
  if 'locked_at' = any (missing) then
    execute format('alter table %s add column locked_at timestamptz', adopted);
  end if;
  execute format($comments$
    comment on column %1$s.build_status is 'idle or processing: written by buildlock. Set to idle by hand, it frees the project.';
    comment on column %1$s.locked_by is 'Who holds the project''s lock: written by buildlock.';
    comment on column %1$s.locked_at is 'Since when: written by buildlock.';
  $comments$, adopted);

  -- A lock that was made at home left its marks; leases of buildlock's own that are there already leave theirs.
  if triggers = 0 and not 'build_status' = any (missing) then
    execute format(
      'update %s set build_status = ''idle'', locked_by = null, locked_at = null where build_status <> ''idle''', adopted
    );
  end if;
  perform buildlock.project_changed(locks.project, locks.holder, locks.acquired_at)
  from buildlock.locks
  where locks.token is not null;

  -- The role that migrates owns the functions, so it is the one that buildlock itself writes as.
  execute format($triggers$
    create or replace trigger buildlock_api_insert
    before insert on %1$s
    for each row
    when (
      current_user <> %2$L
      and (new.build_status, new.locked_by, new.locked_at) is distinct from ('idle', null, null)
    )
    execute function buildlock.refuse_api_roles();

    create or replace trigger buildlock_api_update
    before update on %1$s
    for each row
    when (
      current_user <> %2$L
      and (old.build_status, old.locked_by, old.locked_at)
        is distinct from (new.build_status, new.locked_by, new.locked_at)
    )
    execute function buildlock.refuse_api_roles();

    create or replace trigger buildlock_insert
    before insert on %1$s
    for each row
    when ((new.build_status, new.locked_by, new.locked_at) is distinct from ('idle', null, null))
    execute function buildlock.keep_project_true();

    create or replace trigger buildlock_update
    before update on %1$s
    for each row
    when (
      (old.id, old.build_status, old.locked_by, old.locked_at)
        is distinct from (new.id, new.build_status, new.locked_by, new.locked_at)
    )
    execute function buildlock.keep_project_true();

    create or replace trigger buildlock_updated
    after update on %1$s
    for each row
    when (old.build_status = 'processing' and new.build_status = 'idle')
    execute function buildlock.project_freed();

    create or replace trigger buildlock_owner
    after update on %1$s
    for each row
    when (old.%3$I is distinct from new.%3$I)
    execute function buildlock.owner_changed();

    create or replace trigger buildlock_renamed
    after update on %1$s
    for each row
    when (old.id is distinct from new.id)
    execute function buildlock.project_gone();

    create or replace trigger buildlock_deleted
    after delete on %1$s
    for each row
    execute function buildlock.project_gone();

    create or replace trigger buildlock_truncated
    after truncate on %1$s
    for each statement
    execute function buildlock.projects_truncated();
  $triggers$, adopted, current_user, adoption.owner_column);

  update buildlock.adoption set added_columns = added_columns || missing where id;
end
$adopt_table$;
