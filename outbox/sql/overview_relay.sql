-- The relay that leads: its connection holds an advisory lock by the number of its run.
select r.host, r.at
from :"schema".relays r
where exists (
  select from pg_catalog.pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
    and (l.classid::bigint << 32) | l.objid::bigint = r.run)
order by r.at desc
limit 1
