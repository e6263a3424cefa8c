select count(*)
from tickets
