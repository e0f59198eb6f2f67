-- Prepared transactions that have been waiting for longer than $1.
select pg_catalog.quote_literal(x.gid), x.owner::text, x.database::text, extract(epoch from pg_catalog.clock_timestamp() - x.prepared)::float8,
       x.database = pg_catalog.current_database()
from pg_catalog.pg_prepared_xacts x where x.prepared < pg_catalog.clock_timestamp() - $1::interval
order by x.prepared
