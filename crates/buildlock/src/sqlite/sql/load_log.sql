select build_log.number, build_log.at, build_log.stream, build_log.text
from builds
join build_log on build_log.build = builds.number
where builds.id = ?1 and builds.is_deleted = 0 and build_log.number > ?2
order by build_log.number
limit ?3
