select min(due_at)
from projects
where due_at is not null
