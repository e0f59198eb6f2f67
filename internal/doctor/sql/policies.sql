-- Captured tables with row-level security, and whether it would hide rows from this role.
select t.name, pg_catalog.row_security_active(t.relid)
from :"schema".tables t join pg_catalog.pg_class c on c.oid = t.relid where c.relrowsecurity order by 1
