insert into events (id, at, project, kind, holder, request, token, operation, message, ended_by, reason, previous)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
