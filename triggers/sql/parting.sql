-- The last event of a table that is captured no more: nodes that follow it look at it again, and say so.
select :"schema".write_reload(t.relid) from :"schema".tables t where t.relid = :'relation'::pg_catalog.regclass;
