update projects
set build_status = 'idle', locked_by = null, locked_at = null
where id = $1
  and locked_by = 'bench'
  and $2 = 0::bigint
returning 0::bigint
