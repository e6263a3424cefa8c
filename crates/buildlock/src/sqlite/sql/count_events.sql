select count(*)
from events
