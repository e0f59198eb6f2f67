-- What the outbox takes, and whether trimming and vacuum keep up. $1 is how many events stay in any case.
select pg_catalog.pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint,
       coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), greatest(s.last_autovacuum, s.last_vacuum),
       coalesce('autovacuum_enabled=false' = any (c.reloptions), false),
       -- The oldest event that trimming may take at all.
       (select extract(epoch from pg_catalog.clock_timestamp() - o.at)::float8 from :"schema".outbox o
        where o.xid < (select k.xid from :"schema".outbox k order by k.xid desc, k.seq desc offset $1 limit 1) order by o.xid, o.seq limit 1),
       n.bytes, n.rate
from pg_catalog.pg_class c left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid,
     (select coalesce(avg(pg_catalog.pg_column_size(w.*)), 0)::float8 as bytes,
             coalesce(count(*) / nullif(extract(epoch from pg_catalog.clock_timestamp() - min(w.at)), 0), 0)::float8 as rate
      from (select o.* from :"schema".outbox o order by o.xid desc, o.seq desc limit 10000) w) n
where c.oid = (:'schema_quoted' || '.outbox')::pg_catalog.regclass
