-- from 180000
-- What 18 brought.
create table a (id uuid primary key default uuidv7(), v text, n int default 0);
create table b (id int primary key, v int);
create table c (id int primary key, b_id int);
create table parted (id int primary key, v int) partition by range (id);
create table parted_1 partition of parted default;
-- capture
insert into b values (1, 1), (2, 2) returning old.*, new.*;
update b set v = v + 1 returning old.v, new.v, v;
update b set id = id + 10 where id = 1 returning old.id, new.id;
delete from b where id = 2 returning old.*, new.*;
insert into b values (11, 5) on conflict (id) do update set v = excluded.v returning old, new, old is null;
merge into b using (values (11), (12)) s(i) on b.id = s.i when matched then update set v = 0 when not matched then insert values (s.i, 1) returning merge_action(), old.*, new.*;
update parted set v = 1 returning old.v;
insert into parted values (1, 1) returning old.id, new.id;
update parted set id = 2, v = 2 returning old.*, new.*;
alter table c add constraint fk foreign key (b_id) references b not enforced;
insert into c values (1, 999);
alter table c alter constraint fk enforced;
alter table b add constraint nn not null v not valid;
update b set v = null where id = 12;
insert into a (v) values ('x') returning id is not null, uuid_extract_version(id);
update a set v = 'y'\; delete from a;
alter table b add column g int generated always as (id * 2) virtual;
insert into b (id, v) values (30, 1) returning *;
update b set v = 9 where id = 30 returning old.g, new.g;
update b set id = 31 where id = 30\; update b set v = 10 where id = 31\; delete from b where id = 31;
copy c from stdin with (on_error ignore, reject_limit 1);
x	1
y	2
\.
