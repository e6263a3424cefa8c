select number, hash, owner, role, created_at
from buildlock.keys
where hash = $1 and revoked_at is null
