select number, hash, owner, role, created_at
from buildlock.keys
where revoked_at is null
order by number
