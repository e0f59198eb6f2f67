-- The log itself. The rate is that of the last minute, or of the newest 10,000 events
-- where they are younger.
with newest as (select o.at from :"schema".outbox o order by o.xid desc, o.seq desc limit 10000),
recent as (select count(*) as n, extract(epoch from pg_catalog.clock_timestamp() - min(w.at)) as span, count(*) = 10000 as full
           from newest w where w.at > pg_catalog.clock_timestamp() - interval '1 minute')
select m.bell, m.history::text, m.version, h.xid::text::bigint, h.moved,
       pg_catalog.pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint,
       (select o.at from :"schema".outbox o order by o.xid, o.seq limit 1),
       case when r.full then r.n / greatest(r.span, 0.001) else r.n / 60.0 end::float8,
       coalesce((select 'process ' || a.pid || case when a.application_name <> '' then ' (' || a.application_name || ')' else '' end
                        || ', ' || coalesce(a.state, '?') || ', in a transaction since ' || pg_catalog.date_trunc('second', a.xact_start)
                 from pg_catalog.pg_stat_activity a
                 where a.backend_xid is not null and a.xact_start < pg_catalog.clock_timestamp() - interval '1 minute'
                 order by pg_catalog.age(a.backend_xid) desc limit 1), ''),
       coalesce((select 'prepared transaction ' || pg_catalog.quote_literal(x.gid) || ' of ' || pg_catalog.date_trunc('second', x.prepared)
                 from pg_catalog.pg_prepared_xacts x where x.prepared < pg_catalog.clock_timestamp() - interval '1 minute'
                 order by pg_catalog.age(x.transaction) desc limit 1), ''),
       coalesce((select max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn))::bigint
                 from pg_catalog.pg_replication_slots s
                 where s.temporary and s.slot_name like 'lockstep\_%' and s.database = pg_catalog.current_database()), 0)
from :"schema".meta m, :"schema".horizon h, recent r,
     pg_catalog.pg_class c where c.oid = (:'schema_quoted' || '.outbox')::pg_catalog.regclass
