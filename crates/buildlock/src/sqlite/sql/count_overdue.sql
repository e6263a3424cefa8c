select count(*)
from projects
where due_at < ?1
