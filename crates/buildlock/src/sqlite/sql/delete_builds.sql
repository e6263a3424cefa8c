update builds
set is_deleted = 1
where project = ?1 and is_deleted = 0
