-- How many sessions do not show this role what they do; of their transactions the oldest that
-- has written, as everybody can see it among the locks: its process, and how many transactions have begun since.
with hidden as (
  select a.pid from pg_catalog.pg_stat_activity a where a.query = '<insufficient privilege>')
select (select count(*) from hidden)::int, coalesce(w.pid, 0), coalesce(w.age, 0)
from (select) one
left join lateral (
  select l.pid, pg_catalog.age(l.transactionid)::bigint as age from pg_catalog.pg_locks l
  where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted and l.pid in (select h.pid from hidden h)
  order by 2 desc limit 1) w on true
