-- Updatable views, INSTEAD OF triggers and rules.
create table a (id int primary key, v text, kind int default 1);
create table b (id int primary key, a_id int references a, w text);
create table log (n int generated always as identity primary key, what text);
insert into a values (1, 'one', 1), (2, 'two', 2), (3, 'three', 1);
insert into b values (1, 1, 'b1'), (2, 2, 'b2');
create view simple as select id, v from a where kind = 1;
create view checked as select id, v, kind from a where kind = 1 with local check option;
create view nested as select * from checked where id > 1 with cascaded check option;
create view barrier with (security_barrier) as select id, v from a where kind = 1;
create view joined as select b.id, b.w, a.v from b join a on a.id = b.a_id;
create view agg as select kind, count(*) from a group by kind;
create function instead() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then delete from b where id = old.id; raise notice 'instead %', found; return old; end if;
  update a set v = new.v from b where b.id = new.id and b.a_id = a.id;
  update b set w = new.w where id = new.id;
  raise notice 'instead % depth %', found, pg_trigger_depth();
  return new;
end $$;
create trigger instead instead of update or delete on joined for each row execute function instead();
create table ruled (id int primary key, v text);
create rule also as on insert to ruled do also insert into log (what) values ('also ' || new.v);
create rule mark_instead as on delete to ruled do instead update ruled set v = 'deleted' where id = old.id returning old.id, old.v;
create rule conditional as on update to ruled where new.v = 'refused' do instead nothing;
create rule tell as on update to ruled do also notify ruled_changed;
create materialized view mv as select kind, count(*) as n from a group by kind;
create unique index on mv (kind);
-- capture
insert into simple values (4, 'four') returning *;
update simple set v = 'FOUR' where id = 4 returning *;
update simple set v = 'none' where id = 2;
delete from simple where id = 4 returning *;
insert into checked values (5, 'five', 2);
update checked set kind = 2 where id = 1;
insert into nested values (1, 'x', 1);
insert into nested values (6, 'six', 1) returning *;
update barrier set v = v || '.' where v <> 'x' returning *;
insert into simple values (6, 'dup') on conflict (id) do update set v = excluded.v returning *;
update joined set v = 'via view', w = 'also' where id = 1 returning *;
delete from joined where id = 2;
insert into joined values (9, 'x', 'y');
update agg set count = 5;
insert into ruled values (1, 'r1'), (2, 'r2');
insert into ruled values (3, 'r3') returning *;
delete from ruled where id = 1;
delete from ruled where id = 2 returning *;
update ruled set v = 'refused' where id = 3;
update ruled set v = 'fine' where id = 3;
with w as (delete from simple where id = 6 returning id) insert into log (what) select 'with ' || id from w returning *;
select what from log order by n;
refresh materialized view mv;
refresh materialized view concurrently mv;
select * from mv order by kind;
copy simple to stdout;
copy (select * from simple order by id) to stdout;
copy simple (id, v) from stdin;
7	x
\.
create or replace view simple as select id, v, kind from a where kind = 1;
update simple set kind = 3 where id = 3 returning *;
alter view simple set (check_option = cascaded);
insert into simple values (8, 'x', 9);
drop rule mark_instead on ruled;
delete from ruled;
begin\; lock table simple in share mode\; insert into simple values (9, 'x', 1)\; commit;
truncate simple;
table a;
