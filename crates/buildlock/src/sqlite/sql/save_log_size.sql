update builds
set log_lines = ?2, log_bytes = log_bytes + ?3
where number = ?1
