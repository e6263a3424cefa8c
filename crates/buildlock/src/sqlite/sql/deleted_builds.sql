select number, id, ended_at, log_lines, log_bytes
from builds
where is_deleted = 1
order by number
limit ?1
