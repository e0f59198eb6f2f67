-- Where session_replication_role is set to replica, by role and database, for sessions of this database.
select coalesce(r.rolname, ''), coalesce(d.datname, '')
from pg_catalog.pg_db_role_setting s cross join pg_catalog.unnest(s.setconfig) c(line)
left join pg_catalog.pg_roles r on r.oid = s.setrole
left join pg_catalog.pg_database d on d.oid = s.setdatabase
where pg_catalog.lower(c.line) = 'session_replication_role=replica' and (s.setdatabase = 0 or d.datname = pg_catalog.current_database())
order by 1, 2
