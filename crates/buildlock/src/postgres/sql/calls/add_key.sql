select number, hash, owner, role, created_at
from buildlock.add_key($1, $2, $3, $4)
