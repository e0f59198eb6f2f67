-- roles appsql_app
-- Capture and the bell use what Postgres gives to PUBLIC.
create table a (id int primary key);
grant insert on a to appsql_app;
revoke execute on function pg_notify(text, text) from public;
-- capture
-- session b as appsql_app
insert into a values (1);
