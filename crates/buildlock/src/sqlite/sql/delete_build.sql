delete from builds
where number = ?1
