select build_log.number, build_log.at, build_log.stream, build_log.text
from buildlock.builds
join buildlock.build_log on build_log.build = builds.id
where builds.id = $1 and not builds.is_deleted and build_log.number > $2
order by build_log.number
limit $3
