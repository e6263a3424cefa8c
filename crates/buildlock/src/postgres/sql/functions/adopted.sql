-- What buildlock asks and tells an adopted table. These are for a store that has adopted none: where one is
-- adopted, adopt.sql replaces them in the same transaction.

-- buildlock.is_adopted() returns boolean
-- Whether a table is adopted. Then a project must be a row of it before it can be locked. Not immutable: a
-- plan that had it folded to a constant would outlive the adoption.
create or replace function buildlock.is_adopted()
returns boolean
language plpgsql
stable
set search_path = ''
as 'begin return false; end';

comment on function buildlock.is_adopted() is
  'Whether a table is adopted. Then a project must be a row of it before it can be locked.';

-- buildlock.adopted_owner(project) returns text
-- Who owns the adopted table's row with this id; null: there is no such row.
create or replace function buildlock.adopted_owner(project text)
returns text
language plpgsql
stable
set search_path = ''
as 'begin return null; end';

comment on function buildlock.adopted_owner(text) is
  'Who owns the adopted table''s row with this id; null: there is no such row.';

-- buildlock.project_changed(project, holder, acquired_at) returns void
-- Brings the adopted table's row in line with the lock, after buildlock.locks was written. No holder: idle.
create or replace function buildlock.project_changed(project text, holder text, acquired_at bigint)
returns void
language plpgsql
volatile
set search_path = ''
as 'begin end';

comment on function buildlock.project_changed(text, text, bigint) is
  'Brings the adopted table''s row in line with the lock, after buildlock.locks was written. No holder: idle.';

-- buildlock.take_adopted(project) returns boolean
-- Locks the adopted table's row, for who must not wait for it; false: somebody else has it in hand.
create or replace function buildlock.take_adopted(project text)
returns boolean
language sql
volatile
set search_path = ''
as 'select true';

comment on function buildlock.take_adopted(text) is
  'Locks the adopted table''s row, for who must not wait for it; false: somebody else has it in hand.';
