-- from 170000
-- What 16 and 17 brought.
create table a (id int primary key, v text, n int default 0);
create table p (id int, r int, v text, primary key (id, r)) partition by list (r);
create table p1 partition of p for values in (1);
create view va as select id, v from a;
insert into a values (1, 'one'), (2, 'two'), (3, 'three');
-- capture
merge into a using (values (1), (2), (9)) s(i) on a.id = s.i
  when matched and s.i = 1 then delete
  when matched then update set v = v || ' merged'
  when not matched then insert (id, v) values (s.i, 'new')
  when not matched by source then update set n = -1
  returning merge_action(), a.*;
with m as (merge into a using (values (2)) s(i) on a.id = s.i when matched then update set id = 20 returning a.id, merge_action()) select * from m;
merge into va using (values (77)) s(i) on va.id = s.i when not matched then insert values (s.i, 'by view') returning merge_action();
copy a from stdin with (on_error ignore);
30	fine	1
x	not fine	1
31	fine	y
\.
copy a (id, v, n) from stdin with (default '\D');
40	given	\D
\.
insert into a values (50) returning *;
set transaction_timeout = '700ms';
-- to the end
begin\; update a set v = 'slow' where id = 50\; do $$ begin perform pg_sleep(60); end $$;
-- session b
select id, v from a order by id;
alter table p add column i int generated always as identity;
insert into p (id, r) values (1, 1) returning *;
create table p2 (like p including all);
create table p3 partition of p for values in (3);
insert into p (id, r) values (3, 3) returning *;
update p set r = 3 where id = 1 returning *;
table p;
