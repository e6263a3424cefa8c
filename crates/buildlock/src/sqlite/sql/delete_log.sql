delete from build_log
where build = ?1
