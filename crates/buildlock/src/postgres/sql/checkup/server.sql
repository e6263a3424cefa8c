-- The server, and how it is set for whoever asks. One row.
select
  current_setting('server_version') as version,
  current_setting('server_version_num')::integer as version_number,
  current_user::text as "user",
  current_database()::text as database,
  current_setting('server_encoding') as encoding,
  pg_is_in_recovery() as is_standby,
  (select ssl.version from pg_stat_ssl as ssl where ssl.pid = pg_backend_pid() and ssl.ssl) as tls,
  current_setting('fsync') as fsync,
  current_setting('full_page_writes') as full_page_writes,
  current_setting('synchronous_commit') as synchronous_commit,
  current_setting('default_transaction_isolation') as isolation,
  current_setting('default_transaction_read_only') as read_only,
  current_setting('autovacuum') as autovacuum,
  (select setting::bigint from pg_settings where name = 'statement_timeout') as statement_timeout_ms,
  current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
    as connections_allowed,
  (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections_used,
  (select rolconnlimit::bigint from pg_roles where rolname = current_user and rolconnlimit >= 0) as connections_of_user,
  (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms
