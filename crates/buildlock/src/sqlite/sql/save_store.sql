update store
set latest_ms = ?1, wall_ahead_ms = ?2, next_token = ?3
