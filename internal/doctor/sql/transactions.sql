-- Transactions that began longer than $1 ago: of this database, and of others those that have
-- written. A walsender's is old_standbys.sql's.
select a.pid, coalesce(a.usename, '')::text, coalesce(a.datname, '')::text, coalesce(a.application_name, ''), coalesce(a.client_addr::text, ''),
       coalesce(a.state, ''), extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8,
       a.backend_xid is not null, a.backend_xmin is not null
from pg_catalog.pg_stat_activity a
where a.xact_start < pg_catalog.clock_timestamp() - $1::interval and a.pid <> pg_catalog.pg_backend_pid()
  and coalesce(a.backend_type, '') not in ('walsender', 'autovacuum worker')
  and (a.datname = pg_catalog.current_database() or a.backend_xid is not null)
order by a.xact_start
