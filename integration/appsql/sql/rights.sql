-- roles appsql_owner appsql_writer appsql_reader appsql_none
-- Roles with few rights, row security, definers, search paths.
grant create on schema public to appsql_owner;
grant usage on schema public to public;
set role appsql_owner;
create table a (id int primary key, owner text default current_user, v text);
create table secret (id int primary key, v text);
create table cols (id int primary key, v text, hidden text default 'h');
create table forced (id int primary key, v text);
insert into a values (1, 'appsql_writer', 'w'), (2, 'appsql_reader', 'r');
insert into secret values (1, 's');
grant select, insert, update, delete on a to appsql_writer;
grant select on a to appsql_reader;
grant select (id, v), update (v), insert (id, v) on cols to appsql_writer;
alter table a enable row level security;
create policy own on a to appsql_writer using (owner = current_user) with check (owner = current_user);
create policy see on a for select to appsql_reader using (true);
alter table forced enable row level security;
alter table forced force row level security;
create policy big on forced using (id > 10) with check (id > 10);
create policy narrow on forced as restrictive using (id < 100);
create function put_secret(int, text) returns void language sql security definer as $$ insert into secret values ($1, $2) $$;
create function whoami() returns text language sql security definer as $$ select current_user || ' for ' || session_user $$;
reset role;
create schema app;
create table app.t (id int primary key, v text);
grant usage on schema app to appsql_writer;
grant all on app.t to appsql_writer;
-- capture
-- session w as appsql_writer
select * from a order by id;
insert into a (id, v) values (3, 'mine') returning *;
insert into a (id, owner, v) values (4, 'appsql_owner', 'forged');
update a set v = 'changed';
update a set owner = 'appsql_reader';
update a set id = id + 100;
update a set id = 2;
insert into a (id, v) values (2, 'hidden key');
insert into a (id, v) values (2, 'hidden key') on conflict (id) do nothing returning id;
insert into a (id, v) values (2, 'hidden key') on conflict (id) do update set v = 'x';
delete from a where id = 2;
delete from a where id = 101 returning *;
truncate a;
select * from secret;
insert into secret values (2, 's');
select put_secret(2, 'by definer');
select whoami();
select put_secret(2, 'dup');
insert into cols (id, v) values (1, 'x') returning id, v;
insert into cols (id, v) values (1, 'x') returning *;
update cols set v = 'y' where id = 1;
update cols set hidden = 'y';
update cols set v = hidden;
delete from cols;
insert into forced values (50, 'x');
copy a from stdin;
7	appsql_writer	copied
\.
copy a (id, v) to stdout;
set row_security = off;
select * from a;
update a set v = 'off';
reset row_security;
insert into app.t values (1, 'x');
update app.t set id = 2;
update app.t set id = 3\; update app.t set id = 4\; delete from app.t;
alter table a add column x int;
drop table a;
begin\; lock table a in row exclusive mode\; lock table a in share mode\; commit;
begin\; lock table app.t in access exclusive mode\; commit;
rollback;
create trigger t before insert on a for each row execute function suppress_redundant_updates_trigger();
vacuum a;
analyze a;
set role appsql_owner;
-- session r as appsql_reader
select id from a order by id;
insert into a (id) values (9);
update a set v = 'x';
delete from a;
select * from a where id = 2 for update;
-- session o as appsql_owner
insert into forced values (5, 'refused');
insert into forced values (50, 'fine'), (500, 'narrow') returning *;
select * from forced order by id;
update forced set id = id + 1 returning *;
update forced set id = 5;
delete from forced returning *;
truncate forced;
alter table a disable row level security;
update a set v = v || '.' returning id;
revoke select on a from appsql_writer;
-- session w
update a set v = 'blind';
delete from a;
update a set v = v;
insert into a (id, v) values (70, 'x') returning id;
insert into a (id, v) values (70, 'x');
-- session n as appsql_none
select * from a;
insert into a (id) values (80);
create table mine (id int primary key);
create temp table a (id int primary key, v text);
insert into a values (1, 'temporary');
insert into public.a (id) values (1);
set search_path = pg_temp, public;
update a set v = 'still temporary' returning *;
-- session a
-- A path full of traps: functions, operators and tables with the names that capture uses.
create schema trap;
create function trap.row_to_json(record) returns json language plpgsql as $$ begin raise exception 'trapped'; end $$;
create function trap.row_to_json(anyelement) returns json language plpgsql as $$ begin raise exception 'trapped'; end $$;
create function trap.set_config(text, text, boolean) returns text language plpgsql as $$ begin raise exception 'trapped'; end $$;
create function trap.current_setting(text, boolean) returns text language plpgsql as $$ begin raise exception 'trapped'; end $$;
create function trap.eq(int, int) returns boolean language plpgsql as $$ begin raise exception 'trapped'; end $$;
create operator trap.= (leftarg = int, rightarg = int, function = trap.eq);
create table trap.outbox (id int);
create table trap.tables (id int);
create temp table outbox (seq int);
create temp table old_rows (id int);
create temp table new_rows (id int);
set search_path = trap, public, pg_catalog;
update public.a set v = 'path' where true;
update public.a set id = id operator(pg_catalog.+) 1000;
insert into public.a values (1, 'x', 'y')\; update public.a set id = 5 where id operator(pg_catalog.=) 1\; delete from public.a where id operator(pg_catalog.=) 5;
reset search_path;
set session authorization appsql_writer;
select current_user, session_user;
insert into app.t values (1, 'as writer');
set role appsql_owner;
reset session authorization;
grant appsql_owner to appsql_writer;
-- session w
set role appsql_owner;
update a set id = id + 1\; update a set id = id + 1;
select current_user, count(*) from a;
reset role;
-- session a
alter table a owner to appsql_writer;
reassign owned by appsql_owner to appsql_reader;
-- session w
update a set id = id + 1\; update a set id = id + 1;
alter table a rename to renamed;
update renamed set id = id + 1\; update renamed set id = id + 1;
-- session a
drop owned by appsql_reader;
select count(*) from pg_class where relname in ('secret', 'cols', 'forced');
