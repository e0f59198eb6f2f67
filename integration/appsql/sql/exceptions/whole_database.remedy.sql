-- roles appsql_dba
create table a (id int primary key);
alter table a owner to appsql_dba;
-- capture
-- session d as appsql_dba
insert into a values (1);
analyze a;
