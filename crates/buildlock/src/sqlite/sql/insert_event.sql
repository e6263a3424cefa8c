insert into events (id, at, project, kind, holder, request, token, operation, message, ended_by, reason, previous)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
