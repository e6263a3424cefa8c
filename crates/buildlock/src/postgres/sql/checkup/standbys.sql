-- Who follows the server's log: how many, how many of them a commit waits for, and of how many this role may not
-- know that. One row.
select
  count(*) as standbys,
  count(*) filter (where sync_state in ('sync', 'quorum')) as synchronous,
  count(*) filter (where sync_state is null) as hidden,
  current_setting('synchronous_standby_names') as synchronous_standby_names,
  current_setting('synchronous_commit') as synchronous_commit
from pg_stat_replication
