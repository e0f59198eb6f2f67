-- Who is about to ring: announce.sql's advisory lock, and the transaction that holds it. $1 is its classid.
select l.pid, coalesce(l.virtualtransaction, ''), coalesce(a.application_name, ''), coalesce(a.wait_event, '')
from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid::bigint = $1
  and l.objid = (select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = :'schema' and c.relname = 'outbox')
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
