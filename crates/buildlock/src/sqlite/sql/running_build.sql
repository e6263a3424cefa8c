select number, log_lines
from builds
where id = ?1 and status = 'running' and is_deleted = 0
