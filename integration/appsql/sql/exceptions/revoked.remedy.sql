-- roles appsql_app
-- The bell runs as who commits, and from 18 on as who captured: it is given to both.
create table a (id int primary key);
grant insert on a to appsql_app;
revoke execute on function pg_notify(text, text) from public;
-- capture
grant execute on function pg_notify(text, text) to appsql_app;
do $$ begin if exists (select from pg_roles where rolname = 'lockstep_capture') then grant execute on function pg_notify(text, text) to lockstep_capture; end if; end $$;
-- session b as appsql_app
insert into a values (1);
