-- roles appsql_app
create table a (id int primary key);
grant insert on a to appsql_app;
revoke execute on function pg_notify(text, text) from public;
grant execute on function pg_notify(text, text) to appsql_app;
-- capture
-- session b as appsql_app
insert into a values (1);
