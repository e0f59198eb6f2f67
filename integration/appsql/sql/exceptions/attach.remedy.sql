-- Its capture is taken off first; the root's then covers it.
create table p (id int, r int, primary key (id, r)) partition by list (r);
create table q (id int, r int, primary key (id, r)) partition by list (id);
create table q_default partition of q default;
insert into q values (1, 7);
-- capture
insert into q values (2, 7);
set client_min_messages = warning;
drop trigger if exists lockstep_row on q;
alter table p attach partition q for values in (7);
table p;
update p set id = 3 where id = 2\; truncate q;
