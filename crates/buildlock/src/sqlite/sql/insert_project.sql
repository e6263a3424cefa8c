insert into projects (id, owner)
values (?1, ?2)
