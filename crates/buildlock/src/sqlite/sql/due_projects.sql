select id
from projects
where due_at <= ?1
order by due_at
limit ?2
