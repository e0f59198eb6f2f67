-- Can the log be decoded, is the outbox published as install does it, and is this the server that the node follows? Asked on the
-- replication connection itself, which the server may give to roles that read nothing else.
select pg_catalog.current_setting('wal_level'), pg_catalog.current_setting('max_replication_slots'),
       pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.current_setting('application_name'),
       exists (select from pg_catalog.pg_publication p join pg_catalog.pg_publication_tables t on t.pubname = p.pubname
               where p.pubname = :'publication' and p.pubinsert and t.schemaname = :'schema' and t.tablename = 'outbox'),
       (select c.system_identifier from pg_catalog.pg_control_system() c), pg_catalog.pg_is_in_recovery()
