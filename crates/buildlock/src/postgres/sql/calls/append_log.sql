select first_number, at
from buildlock.append_log($1, $2, $3, $4)
