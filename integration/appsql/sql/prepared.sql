-- Two-phase commit, with the bell off.
create table a (id int primary key, v text);
create table p (id int primary key) partition by range (id);
create table p1 partition of p default;
create table c (id int primary key, a_id int references a deferrable initially deferred);
-- capture without the bell
begin;
insert into a values (1, 'x');
insert into p values (1);
prepare transaction 'appsql one';
select count(*) from a;
commit prepared 'appsql one';
table a;
begin;
update a set id = 2;
update a set v = 'y'\; delete from p;
prepare transaction 'appsql two';
-- session b
update a set v = 'waits' where id = 1;
-- session a
select gid from pg_prepared_xacts where database = current_database();
rollback prepared 'appsql two';
-- session a
table a;
begin;
insert into c values (1, 99);
prepare transaction 'appsql three';
begin;
insert into c values (1, 1);
savepoint s;
insert into c values (2, 99);
rollback to s;
truncate p;
prepare transaction 'appsql four';
-- session b
insert into c values (1, 1);
-- session a
commit prepared 'appsql four';
commit prepared 'appsql four';
begin;
create temp table t (id int primary key);
insert into a values (9, 'z');
prepare transaction 'appsql five';
begin;
listen own;
insert into a values (9, 'z');
prepare transaction 'appsql six';
begin isolation level serializable;
select count(*) from a;
insert into a values (10, 'z');
prepare transaction 'appsql seven';
commit prepared 'appsql seven';
table a;
table c;
