-- What has happened since an event and up to another, as far as metrics count it.
select id, at, kind, request, token
from buildlock.events
where id > $1
  and id <= $2
order by id
limit 10000
