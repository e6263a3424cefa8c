select token
from events
where request = ?1 and kind = 'granted' and project = ?2
