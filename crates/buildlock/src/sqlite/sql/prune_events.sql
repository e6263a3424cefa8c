delete from events
where id in (
  select id
  from events
  where id < ?2 and at < ?1
  order by id
  limit ?3
)
