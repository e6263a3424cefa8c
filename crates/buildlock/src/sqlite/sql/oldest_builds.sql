select number, id, ended_at, log_lines, log_bytes
from builds
where ended_at is not null and is_deleted = 0
order by ended_at, number
limit ?1
