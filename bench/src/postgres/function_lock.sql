select token
from public.lock_project($1, holder => 'bench')
