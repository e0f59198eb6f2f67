-- Who holds the lead among the relays, for people. $1 the schema's oid, $2 the second half of the lock.
select pg_catalog.format('pid %s, role %s', l.pid, coalesce(a.usename, '?'))
from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = $1 and l.objid = $2
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
