-- A new history: for an outbox that came from elsewhere (a dump restored into another
-- cluster, pg_upgrade). Its rows carry transaction ids of another cluster. They
-- go by DELETE, not TRUNCATE, which would hide them from open snapshots. Every
-- node loads its tables again.
delete from :"schema".outbox;
delete from :"schema".nodes;
update :"schema".horizon set xid = '0', moved = pg_catalog.clock_timestamp();
update :"schema".meta set history = pg_catalog.gen_random_uuid(),
  system_identifier = (select system_identifier from pg_catalog.pg_control_system());
