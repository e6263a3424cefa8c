select number, hash, owner, role, created_at, revoked_at
from keys
where hash = ?1
