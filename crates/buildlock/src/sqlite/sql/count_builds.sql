select count(*) filter (where status = 'running'), count(*), coalesce(sum(log_bytes), 0)
from builds
where is_deleted = 0
