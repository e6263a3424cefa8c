update projects
set due_at = ?2
where number = ?1
