-- Snapshots: repeatable read and serializable, and what they refuse.
create table a (id int primary key, v int);
create table doctors (name text primary key, on_call boolean);
create table p (id int primary key, v int) partition by range (id);
create table p1 partition of p default;
insert into a select i, 0 from generate_series(1, 10) i;
insert into p select i, 0 from generate_series(1, 10) i;
insert into doctors values ('ann', true), ('bob', true);
create table far (id int primary key, v int);
create table far_part (id int primary key, v int) partition by range (id);
create table far_part_1 partition of far_part default;
insert into far select i, 0 from generate_series(1, 20000) i;
insert into far_part select i, 0 from generate_series(1, 20000) i;
analyze far, far_part;
-- capture
begin isolation level repeatable read;
select count(*) from a;
-- session b
update a set v = 1 where id = 1;
delete from a where id = 2;
insert into a values (20, 0);
-- session a
select count(*) from a;
update a set v = 3 where id = 3 returning *;
insert into a values (20, 1) on conflict do nothing;
rollback;
begin isolation level repeatable read;
select count(*) from a;
-- session b
update a set v = 5 where id = 5;
-- session a
update a set v = 6 where id = 5;
rollback;
begin isolation level repeatable read;
select from a;
-- session b
delete from a where id = 6;
-- session a
insert into a values (6, 66);
select v from a where id = 6;
update a set v = 7 where id = 6;
rollback;
begin isolation level repeatable read;
select from a;
-- session b
delete from a where id = 7;
-- session a
insert into a values (7, 77);
update a set v = 8 where id = 7 and v = 77;
rollback;
-- Write skew.
begin isolation level serializable;
select count(*) from doctors where on_call;
-- session b
begin isolation level serializable;
select count(*) from doctors where on_call;
update doctors set on_call = false where name = 'bob';
-- session a
update doctors set on_call = false where name = 'ann';
commit;
-- session b
commit;
select * from doctors order by name;
-- No skew: each writes rows of its own, and reads nothing else.
-- session a
set enable_seqscan = off;
begin isolation level serializable;
update a set v = 1 where id = 8;
-- session b
set enable_seqscan = off;
begin isolation level serializable;
update a set v = 1 where id = 9;
-- session a
insert into a values (100, 0);
commit;
-- session b
insert into a values (101, 0);
commit;
-- session a
begin isolation level serializable read only deferrable;
select count(*) from a;
commit;
begin isolation level serializable;
insert into p values (100, 0);
-- session b
begin isolation level serializable;
insert into p values (101, 0);
-- session a
commit;
-- session b
commit;
-- Two that touch rows of their own, far from each other, and look at nothing else.
-- session a
reset enable_seqscan;
begin isolation level serializable;
update far set v = 1 where id <= 300\; update far set id = -id where id <= 300;
update far_part set v = 1 where id = 8;
-- session b
reset enable_seqscan;
begin isolation level serializable;
update far set v = 1 where id > 19700\; update far set id = id + 10000 where id > 19700;
update far_part set v = 1 where id = 2000\; delete from far_part where id = 2000;
-- session a
commit;
-- session b
commit;
-- READ COMMITTED re-checks a row that it waited for.
-- session a
begin;
update a set v = v + 100 where id = 10;
-- session b
update a set v = v + 1 where id = 10 and v < 100 returning *;
-- session c
update a set id = id + 1000 where v > 99 returning *;
-- session a
commit;
begin;
update p set id = 500 where id = 5;
-- session b
update p set v = 9 where id = 5 returning *;
-- session a
commit;
-- An exported snapshot.
begin isolation level repeatable read;
insert into a values (2000, 0);
select length(pg_export_snapshot()) > 0;
commit;
