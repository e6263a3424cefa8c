-- What a store of version 1 has in it: a project that is held, and one that was.
insert into store (id, boot_id, offset_ms, wall_ahead_ms, latest_ms, next_token)
values (1, 'before', 0, 0, 1700000000000, 3);

insert into events (id, at, project, kind, holder, request, token, operation, message, ended_by, previous)
values
  (1, 1699999990000, 'idle', 'granted', 'ben', x'0190d6a0000070008000000000000001', 1, 'edit', '', null, null),
  (2, 1699999991000, 'idle', 'unlocked', 'ben', x'0190d6a0000070008000000000000001', 1, 'edit', null, 'ben', 1),
  (3, 1700000000000, 'held', 'granted', 'ana', x'0190d6a0000070008000000000000002', 2, 'generate', '', null, null);

insert into projects (id, owner, last_event)
values ('idle', 'ben', 2);

-- Until the year 5138: the store's time after a reboot is the wall clock's.
insert into projects (
  id, owner, build_status, locked_by, locked_at, token, request, operation, message, ttl_ms, expires_at, due_at,
  last_event
)
values (
  'held', 'ana', 'processing', 'ana', 1700000000000, 2, x'0190d6a0000070008000000000000002', 'generate', '', 30000,
  100000000000000, 100000000000000, 3
);
