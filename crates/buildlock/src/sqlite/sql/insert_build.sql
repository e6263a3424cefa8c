insert into builds (id, project, operation, holder, token, request, started_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
