select coalesce(sum(log_bytes), 0)
from builds
where ended_at is not null and is_deleted = 0
