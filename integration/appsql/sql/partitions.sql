-- Partitions: routing, moving, attaching, detaching, sub-partitions, keys across them.
create table p (id int, r int, v text default 'd', primary key (id, r)) partition by list (r);
create table p1 partition of p for values in (1);
create table p2 (v text, r int not null, id int not null, extra int, primary key (id, r));
alter table p2 drop column extra;
alter table p attach partition p2 for values in (2);
create table p3 partition of p for values in (3) partition by range (id);
create table p3_low partition of p3 for values from (minvalue) to (10);
create table p3_high partition of p3 for values from (10) to (maxvalue);
create table h (id int primary key, v text) partition by hash (id);
create table h0 partition of h for values with (modulus 2, remainder 0);
create table h1 partition of h for values with (modulus 2, remainder 1);
create table c (id int primary key, h_id int references h on update cascade on delete cascade);
create table r (id int primary key, v text) partition by range (id);
create table r1 partition of r for values from (0) to (10);
create table own_before (id int primary key, v text);
create table heir (id int primary key, v text);
create table log (n int generated always as identity primary key, what text);
create function say() returns trigger language plpgsql as $$
begin
  raise notice '% % % on % % depth %', tg_name, tg_when, tg_op, tg_table_name, case when tg_level = 'ROW' then concat(old, ' to ', new) end, pg_trigger_depth();
  return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger say_before before insert or update or delete on p for each row execute function say();
create trigger say_after after insert or update or delete on p for each row execute function say();
create trigger say_all after insert or update or delete or truncate on p for each statement execute function say();
create trigger say_all after insert or update or delete or truncate on p1 for each statement execute function say();
-- capture
insert into p values (1, 1), (2, 2), (3, 3), (30, 3);
insert into p values (1, 9);
insert into p values (1, 1) on conflict (id, r) do update set v = 'up' returning *;
insert into p values (1, 1) on conflict do nothing returning *;
update p set r = 2 where id = 1 returning tableoid::regclass, *;
update p set r = 9 where id = 2;
update p set id = id + 8 where r = 3 returning tableoid::regclass, *;
update p1 set r = 2;
insert into p1 values (5, 1) returning *;
insert into p1 values (5, 2);
update p1 set r = 3 where id = 5;
delete from p2 where id = 1 returning *;
insert into p3_low values (4, 3) returning *;
update p set v = upper(v) returning *;
delete from p where r = 3 returning id;
copy p from stdin;
100	1	x
101	2	y
103	3	z
\.
copy p from stdin;
104	1	x
104	9	nowhere
\.
copy p2 (id, r) from stdin;
110	2
\.
copy p1 to stdout;
truncate p2;
insert into h select i, 'h' from generate_series(1, 6) i;
insert into c select i, i from generate_series(1, 6) i;
update h set id = id + 1 where id = 6;
table c;
delete from h where id < 3;
table c;
update h set v = 'x' where id = 3\; update h set id = 103 where id = 3\; delete from h where id = 103;
create table p4 partition of p for values in (4);
insert into p values (4, 4) returning tableoid::regclass;
create table p5 (like p including all);
insert into p5 values (5, 5, 'before');
alter table p attach partition p5 for values in (5);
update p set v = v || '!' where r = 5 returning *;
alter table p detach partition p5;
insert into p5 values (6, 6, 'detached');
truncate p5;
insert into p5 values (7, 5, 'again');
alter table p attach partition p5 for values in (5);
insert into p values (8, 5, 'attached again') returning tableoid::regclass;
alter table p attach partition p4 default;
create table p_default partition of p default;
insert into p values (77, 77) returning tableoid::regclass;
create table p6 partition of p for values in (77);
alter table p add column w int default 3;
insert into p values (9, 4, 'wider', 9) returning *;
update p set w = w + 1 where r = 4\; update p set r = 1 where r = 4;
alter table p rename column v to label;
update p set label = 'renamed' where id = 9 returning *;
alter table p alter column w type text;
update p set w = w || 'x' returning *;
drop table p4;
select tgname, tgrelid::regclass from pg_trigger where tgname like 'say%' and not tgisinternal order by 1, 2::text collate "C";
begin;
truncate p;
insert into p values (1, 1);
rollback;
-- to the end
alter table p detach partition p2 concurrently;
insert into p2 (id, r, w) values (900, 2, 'alone');
truncate p restart identity cascade;
create index on p (label);
create unique index on p1 (w);
create index concurrently on p2 (w);
select count(*) from p;
insert into own_before values (11, 'captured by itself');
alter table r attach partition own_before for values from (10) to (20);
insert into r values (1, 'x'), (12, 'y');
update r set id = id + 10 where id = 1;
update own_before set v = 'z'\; truncate own_before;
alter table r detach partition own_before;
insert into own_before values (13, 'by itself again');
alter table heir inherit own_before;
insert into heir values (14, 'heir');
update own_before set v = 'both' returning *;
alter table heir no inherit own_before;
alter table r attach partition heir for values from (10) to (20);
update r set v = 'in r' returning *;
drop table h cascade;
drop table p;
