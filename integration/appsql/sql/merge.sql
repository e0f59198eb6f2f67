-- from 150000
-- MERGE, all its branches.
create table a (id int primary key, v text, n int default 0);
create table src (id int primary key, v text);
create table p (id int primary key, v text) partition by range (id);
create table p_low partition of p for values from (minvalue) to (10);
create table p_high partition of p for values from (10) to (maxvalue);
insert into a values (1, 'one'), (2, 'two'), (3, 'three');
insert into src values (2, 'two'), (3, 'delete'), (4, 'four'), (5, 'nothing');
insert into p values (1, 'x'), (20, 'y');
create function say() returns trigger language plpgsql as $$ begin raise notice '% % % %', tg_name, tg_when, tg_op, tg_level; return coalesce(new, old); end $$;
create trigger say before insert or update or delete on a for each row execute function say();
create trigger say_all after insert or update or delete on a for each statement execute function say();
-- capture
merge into a using src on a.id = src.id
  when matched and src.v = 'delete' then delete
  when matched then update set v = src.v || ' merged', n = n + 1
  when not matched and src.v = 'nothing' then do nothing
  when not matched then insert values (src.id, src.v);
table a;
merge into a using (values (1), (1)) s(i) on a.id = s.i when matched then update set n = 5;
merge into a using src on false when not matched then insert (id, v) values (src.id + 100, src.v);
merge into a using src on a.id = src.id when matched then update set id = a.id + 1000;
merge into p using (values (1, 'x'), (2, 'new'), (20, 'y')) s(i, v) on p.id = s.i when matched and p.id = 20 then delete when matched then update set id = 15 when not matched then insert values (s.i, s.v);
table p;
with s as (delete from src returning *) merge into a using src on a.id = src.id when matched then delete;
begin;
merge into a using (select 4) s(i) on a.id = s.i when matched then delete;
rollback;
merge into a using (values (7)) s(i) on a.id = s.i when not matched then insert values (1, 'dup');
table src;
