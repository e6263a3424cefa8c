select number, hash, owner, role, created_at, revoked_at
from keys
where revoked_at is null
order by number
