select keep_events_ms, keep_events_count from buildlock.retention()
