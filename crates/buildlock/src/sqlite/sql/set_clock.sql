insert into store (id, boot_id, offset_ms, wall_ahead_ms, latest_ms, next_token)
values (1, ?1, ?2, ?3, ?4, 1)
on conflict (id) do update
set
  boot_id = excluded.boot_id, offset_ms = excluded.offset_ms,
  wall_ahead_ms = excluded.wall_ahead_ms, latest_ms = excluded.latest_ms
