-- Who waits for whom, and what happens then.
create table a (id int primary key, v int);
create table b (id int primary key, a_id int references a);
create table p (id int primary key, v int) partition by range (id);
create table p1 partition of p default;
insert into a select i, 0 from generate_series(1, 10) i;
insert into p select i, 0 from generate_series(1, 3) i;
-- capture
begin;
update a set v = 1 where id = 1;
-- session b
select v from a where id = 1;
select v from a where id = 1 for update nowait;
select id from a where id < 4 order by id for update skip locked;
set lock_timeout = '50ms';
-- to the end
update a set v = 2 where id = 1;
-- to the end
delete from a where id = 1;
reset lock_timeout;
set statement_timeout = '50ms';
-- to the end
update a set v = 2 where id = 1;
reset statement_timeout;
update a set v = v + 10 where id = 1 returning v;
-- session a
commit;
table a;
begin;
insert into a values (20, 0);
-- session b
insert into a values (20, 1) on conflict (id) do update set v = 5 returning v;
-- session a
rollback;
begin;
insert into a values (22, 0);
-- session c
insert into a values (22, 2) on conflict do nothing;
-- session a
commit;
begin;
insert into a values (21, 0);
-- session b
insert into a values (21, 1);
-- session a
commit;
-- session a
begin;
delete from a where id = 2;
-- session b
insert into b values (1, 2);
-- session c
update a set v = 9 where id = 2 returning *;
-- session a
commit;
begin;
insert into b values (2, 3);
-- session b
delete from a where id = 3;
-- session c
update a set v = 33 where id = 3;
select * from a where id = 3 for no key update;
-- session a
commit;
-- A deadlock: the session that closes the circle is ended.
begin;
update a set v = 40 where id = 4;
-- session b
set deadlock_timeout = '100s';
begin;
update a set v = 50 where id = 5;
-- session a
set deadlock_timeout = '100s';
update a set v = 51 where id = 5;
-- session b
set deadlock_timeout = '10ms';
-- to the end
do $$ begin update a set v = 41 where id = 4; exception when deadlock_detected then raise notice '%', sqlstate; end $$;
commit;
-- session a
commit;
reset deadlock_timeout;
-- Whole tables.
begin;
lock table a in share mode;
-- session b
insert into a values (30, 0);
-- session c
begin\; lock table a in share row exclusive mode nowait;
rollback;
select count(*) from a;
-- session a
rollback;
begin;
update a set v = 0 where id = 6;
-- session b
truncate b;
alter table a add column w int;
-- session c
update a set v = 1 where id = 7;
-- session a
commit;
-- session b
begin;
truncate b, a;
-- session c
select count(*) from a;
-- session b
rollback;
begin;
vacuum a;
rollback;
-- session a
begin;
insert into a values (50, 0);
-- session b
create index concurrently a_v on a (v);
-- session c
insert into a values (51, 0);
-- session a
commit;
-- One waits for a row at a time: of two that find it changed, whichever is woken first takes the new version.
begin;
update p set v = 1 where id = 1;
-- session b
begin\; update p set id = 100 where id = 1 returning *;
-- session a
commit;
-- session c
delete from p where id = 1;
-- session b
commit;
-- session a
begin;
select * from p where id = 2 for share;
-- session b
update p set v = 2 where id = 2;
-- session a
commit;
insert into p values (70, 7);
select pg_terminate_backend(pg_backend_pid());
-- session c
select * from p order by id;
-- session b
begin;
update a set v = 1 where id = 1;
update a set v = 2 where id = 1;
select mode from pg_locks where relation = 'a'::regclass order by 1;
commit;
