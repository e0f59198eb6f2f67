-- The key of a relay's run, $1, if the connection that the run is bound to is there: it
-- holds an advisory lock by that number. No row: it is not.
select r.key from :"schema".relays r
where r.run = $1 and exists (
  select from pg_catalog.pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
    and (l.classid::bigint << 32) | l.objid::bigint = $1)
