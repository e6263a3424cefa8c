insert into keys (hash, owner, role, created_at)
values (?1, ?2, ?3, ?4)
