-- Who holds the advisory locks ($1, $2) to ($1, $3): whose turn it is to load.
select coalesce(nullif(a.application_name, '') || ' ', '') || '(process ' || l.pid || coalesce(', ' || a.client_addr, '') || ')'
from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 2
  and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
  and l.classid::bigint = $1 and l.objid::bigint between $2 and $3
order by l.objid
