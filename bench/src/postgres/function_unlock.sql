select token
from public.unlock_project($1, $2, holder => 'bench')
