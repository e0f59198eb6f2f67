-- What a statement changed is kept until its triggers have run, in temporary files where it is more than work_mem.
create table a (id int primary key, v text);
insert into a select i, repeat('x', 200) from generate_series(1, 20000) i;
-- capture
insert into a values (0);
set work_mem = '64kB';
set temp_file_limit = '1MB';
update a set v = 'y' || v;
select count(*) from a where v ~ 'y';
