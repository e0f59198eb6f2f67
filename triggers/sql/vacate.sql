-- A table that was renamed still has its old name in the register, and its triggers
-- write it. Another table has the name now: the first one gives it up, until it is
-- registered again. Nodes that follow it read it again, and learn what it is called.
select :"schema".write_reload(t.relid) from :"schema".tables t where t.name = :'relation' and t.relid <> :'relation'::pg_catalog.regclass;
update :"schema".tables set name = name || ' ' || relid where name = :'relation' and relid <> :'relation'::pg_catalog.regclass;
