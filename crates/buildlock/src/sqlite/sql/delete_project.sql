delete from projects
where number = ?1
