-- The table's row in the register. Nodes that follow it already read it again:
-- it may have been written while capture was not right. A table that has a new name
-- is read again under the old one, which then finds out that it is gone.
\ir read_again.sql
insert into :"schema".tables (relid, name, key_columns, mode, excluded)
values (:'relation'::pg_catalog.regclass, :'relation', :'keys', :'mode', :'excluded')
on conflict (relid) do update set name = excluded.name, key_columns = excluded.key_columns, mode = excluded.mode, excluded = excluded.excluded;
delete from :"schema".left_out where name = :'relation';
insert into :"schema".left_out (name, columns) select :'relation', :'left_out'::text[] where :'left_out'::text[] <> '{}';
