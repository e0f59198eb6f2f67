-- How far trimming may go: the first transaction that must stay. $1 the age to
-- keep as an interval, $2 the rows to keep at the most, $3 the newest rows that stay in any
-- case, $4 how many rows one step may look at, $5 nodes whose last beat is younger than
-- this keep what they still need; NULL: they do not.
--
-- Never past our own pg_snapshot_xmin: a long writer commits old transaction
-- ids, and its events must not be below the horizon when they appear.
with
step as (select o.xid, o.at from :"schema".outbox o order by o.xid, o.seq limit $4),
kept as (select o.xid from :"schema".outbox o order by o.xid desc, o.seq desc offset greatest($3 - 1, 0) limit 1),
counted as (select o.xid from :"schema".outbox o order by o.xid desc, o.seq desc offset $2 limit 1),
young as (select min(s.xid::text::bigint) as xid from step s where s.at >= pg_catalog.clock_timestamp() - $1::interval),
ends as (select max(s.xid::text::bigint) + 1 as xid, count(*) as n from step s),
-- A node fetches from the lower of its floor and its oldest transaction in flight,
-- which is the xmin of its position. One that has nothing yet, or has left, needs nothing.
needed as (
  select min(pg_catalog.split_part(n.position, ':', 1)::bigint) as xid from :"schema".nodes n
  where n.beat > pg_catalog.clock_timestamp() - $5::interval and n.state <> 'closed' and n.position ~ '^[0-9]{1,18}:')
select least(
  pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint,
  (select k.xid::text::bigint from kept k), -- whole: it may have more events than are to be kept
  greatest(coalesce(y.xid, e.xid), (select c.xid::text::bigint + 1 from counted c)),
  e.xid,
  (select n.xid from needed n)), e.n
from young y, ends e
where exists (select from kept)
