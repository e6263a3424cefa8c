select count(*) filter (where ended_at is null), count(ended_at), coalesce(sum(log_bytes), 0)
from builds
where is_deleted = 0
