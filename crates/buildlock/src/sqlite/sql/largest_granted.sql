select request
from events
where kind = 'granted'
  and request < ?1
  and length(request) = 16
  and substr(request, 7, 1) between x'70' and x'7f'
order by request desc
limit 1
