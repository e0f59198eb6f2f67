-- The run of the relay that leads, with its key, and where it runs, if the connection that the run is bound to is there: it
-- holds an advisory lock by the number of the run. No row: it is not.
select r.run, r.key, r.host, r.at
from :"schema".relays r
where exists (
  select from pg_catalog.pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
    and (l.classid::bigint << 32) | l.objid::bigint = r.run)
order by r.at desc
limit 1
