-- Sessions of nodes that listen, as far as their application's name tells.
select a.pid, coalesce(a.usename, '')::text, coalesce(a.client_addr::text, '')
from pg_catalog.pg_stat_activity a
where a.datname = pg_catalog.current_database() and a.application_name = 'lockstep bell' order by 1
