-- Every registered node, and how much of the log its position of the last beat
-- did not cover: at most 100,001 events are counted.
-- An older schema does not know their bells.
select n.name, n.state, n.position, n.host, n.version, coalesce(pg_catalog.to_jsonb(n) ->> 'bell', ''), n.beat,
       extract(epoch from pg_catalog.clock_timestamp() - n.beat)::float8,
       b.events, coalesce(extract(epoch from pg_catalog.clock_timestamp() - b.oldest), 0)::float8
from :"schema".nodes n
cross join lateral (
  select case when n.position ~ '^[0-9]{1,18}:[0-9]{1,18}:[0-9,]*$' then pg_catalog.split_part(n.position, ':', 2) end::xid8 as xmax,
         case when n.position ~ '^[0-9]{1,18}:[0-9]{1,18}:[0-9,]+$' then pg_catalog.string_to_array(pg_catalog.split_part(n.position, ':', 3), ',') end::xid8[] as xip) p
cross join lateral (
  select count(*) as events, min(e.at) as oldest
  from (select o.at from :"schema".outbox o where o.xid >= p.xmax
        union all
        select o.at from :"schema".outbox o where o.xid = any (p.xip)
        limit 100001) e) b
order by n.name
