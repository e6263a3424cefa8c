select build, cancel_by
from buildlock.keep_builds($1, $2, $3, $4)
