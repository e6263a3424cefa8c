select count(*)
from projects
where build_status = 'processing'
