create table a (id int primary key, v text);
insert into a select i, repeat('x', 200) from generate_series(1, 20000) i;
-- capture
set work_mem = '64kB';
set temp_file_limit = '1MB';
update a set v = 'y' || v where id <= 1000;
set temp_file_limit = '100MB';
update a set v = 'z' || v;
select count(*) from a where v ~ 'z';
