-- roles appsql_dba
-- A command on everything in the database meets install's five tables, which the application's role does not own.
create table a (id int primary key);
alter table a owner to appsql_dba;
-- capture
-- session d as appsql_dba
insert into a values (1);
set client_min_messages = warning;
analyze;
