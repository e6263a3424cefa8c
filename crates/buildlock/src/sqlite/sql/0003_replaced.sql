-- "insert or replace" takes a row away without a word to any trigger, and a lease with it. What an insert
-- is about to meet is noted before it, and looked up after it: there is no "after" where nothing was
-- inserted, as in "insert … on conflict do update".
create table met_by_insert (
  project text primary key
) strict, without rowid;

create trigger projects_met_by_insert
before insert on projects
begin
  delete from met_by_insert;
  insert into met_by_insert (project)
  select id
  from projects
  where (id = new.id or number = new.number)
    and (token is not null or exists (select 1 from tickets where tickets.project = projects.number));
end;

create trigger projects_replaced_by_hand
after insert on projects
when exists (select 1 from met_by_insert)
begin
  select raise(abort, 'a project that is held is not replaced; to free it, set build_status to ''idle''');
end;

create trigger projects_overwritten_by_hand
before update of id, number on projects
when exists (
  select 1
  from projects
  where (id = new.id or number = new.number) and number <> old.number
)
begin
  select raise(abort, 'there is a project with that id');
end;
