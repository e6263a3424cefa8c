update projects
set build_status = 'processing', locked_by = 'bench', locked_at = now()
where id = $1
  and build_status = 'idle'
returning 0::bigint
