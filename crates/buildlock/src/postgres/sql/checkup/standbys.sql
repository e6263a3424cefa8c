-- Who follows the server's log: how many, and how many of them a commit waits for. One row.
select
  count(*) as standbys,
  count(*) filter (where sync_state in ('sync', 'quorum')) as synchronous,
  current_setting('synchronous_standby_names') as synchronous_standby_names,
  current_setting('synchronous_commit') as synchronous_commit
from pg_stat_replication
