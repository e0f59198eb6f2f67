-- Nodes that follow the table read it again, and find out what has become of it.
select :"schema".write_reload(t.relid) from :"schema".tables t where t.relid = :'relation'::pg_catalog.regclass;
