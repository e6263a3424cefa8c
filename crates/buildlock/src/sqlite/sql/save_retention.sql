update store
set keep_events_ms = ?1, keep_events_count = ?2
