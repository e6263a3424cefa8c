insert into tickets (project, number, request, holder, operation, message, ttl_ms, queued_at, alive_until)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
