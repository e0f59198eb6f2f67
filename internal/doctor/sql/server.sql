-- What any role may know of the server.
select pg_catalog.current_setting('server_version_num')::int, pg_catalog.current_setting('server_version'),
       pg_catalog.current_database()::text, current_user::text,
       pg_catalog.current_setting('max_prepared_transactions')::int, pg_catalog.current_setting('session_replication_role'),
       pg_catalog.current_setting('autovacuum')::boolean and pg_catalog.current_setting('track_counts')::boolean,
       pg_catalog.pg_has_role('pg_read_all_stats', 'usage'),
       pg_catalog.pg_notification_queue_usage(),
       coalesce((select r.rolname from pg_catalog.pg_roles r
                 where r.rolname in ('rds_superuser', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin', 'neon_superuser') order by 1 limit 1), '')
