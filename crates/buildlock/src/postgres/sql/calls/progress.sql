select id, log_lines, ended_at is not null
from buildlock.builds
where id = any($1) and not is_deleted
