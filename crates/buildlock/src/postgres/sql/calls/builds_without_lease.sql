select id, server
from buildlock.builds_without_lease($1)
