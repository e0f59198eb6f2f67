-- Snapshots that standbys without a slot hold, by hot_standby_feedback, and how old they are in transactions.
select r.pid, coalesce(r.application_name, ''), coalesce(r.client_addr::text, ''), pg_catalog.age(r.backend_xmin)::bigint
from pg_catalog.pg_stat_replication r where r.backend_xmin is not null order by 4 desc
