-- What replication slots hold back. An age is in transactions, -1 for none.
select s.slot_name::text, s.slot_type, s.active, coalesce(pg_catalog.age(s.xmin), -1)::bigint, coalesce(s.wal_status, ''),
       coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn), 0)::bigint
from pg_catalog.pg_replication_slots s order by 1
