-- What a session asks once: may this server be followed at all?
select pg_catalog.pg_is_in_recovery(), m.version, m.min_node, m.system_identifier, c.system_identifier,
       (select n.oid::bigint from pg_catalog.pg_namespace n where n.nspname = :'schema'),
       (select o.oid::bigint from pg_catalog.pg_class o join pg_catalog.pg_namespace n on n.oid = o.relnamespace
        where n.nspname = :'schema' and o.relname = 'outbox'), m.bell,
       (select d.oid::bigint from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()),
       case m.bell when 'wal' then pg_catalog.current_setting('synchronous_standby_names') else '' end
from :"schema".meta m, pg_catalog.pg_control_system() c
