-- Postgres puts a partitioned table's row trigger on what is attached to it, where one of that name must not be.
create table p (id int, r int, primary key (id, r)) partition by list (r);
create table q (id int, r int, primary key (id, r)) partition by list (id);
create table q_default partition of q default;
insert into q values (1, 7);
-- capture
insert into q values (2, 7);
alter table p attach partition q for values in (7);
table p;
