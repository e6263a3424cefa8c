select boot_id, offset_ms, wall_ahead_ms, latest_ms, next_token, keep_events_ms, keep_events_count
from store
