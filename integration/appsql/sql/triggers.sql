-- The application's own triggers, of every kind, and what they see.
create table a (id int primary key, v int);
create table b (id int primary key, v int);
create table log (n int generated always as identity primary key, what text);
create function say() returns trigger language plpgsql as $$
begin
  raise notice '% % % % depth % %', tg_name, tg_when, tg_op, tg_level, pg_trigger_depth(), case when tg_level = 'ROW' then concat(old, ' to ', new) end;
  insert into log (what) values (concat_ws(' ', tg_name, tg_op, pg_trigger_depth()));
  if tg_when = 'BEFORE' and tg_op <> 'DELETE' then return new; end if;
  if tg_when = 'BEFORE' then return old; end if;
  return null;
end $$;
create trigger aaa_before before insert or update or delete on a for each row execute function say();
create trigger aaa_after after insert or update or delete on a for each row execute function say();
create trigger aaa_before_all before insert or update or delete or truncate on a for each statement execute function say();
create trigger zzz_after_all after insert or update or delete or truncate on a for each statement execute function say();
create trigger zzz_when after update of v on a for each row when (old.v is distinct from new.v) execute function say();
create constraint trigger deferred after insert or update on a deferrable initially deferred for each row execute function say();
create constraint trigger at_once after insert on a deferrable initially immediate for each row execute function say();
create function nested() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 3 then
    update b set v = v + 1 where id = new.id;
    raise notice 'nested at %: found %', pg_trigger_depth(), found;
  end if;
  return null;
end $$;
create trigger nested after insert or update on a for each row execute function nested();
create trigger nested after update on b for each row execute function nested();
create function counted() returns trigger language plpgsql as $$
declare n int; m int;
begin
  select count(*) into n from new_rows;
  if tg_op = 'UPDATE' then execute 'select count(*) from old_rows' into m; end if;
  raise notice '% counts % and %', tg_name, n, m;
  return null;
end $$;
create trigger mmm_counted_insert after insert on a referencing new table as new_rows for each statement execute function counted();
create trigger mmm_counted_update after update on a referencing old table as old_rows new table as new_rows for each statement execute function counted();
create function refuse() returns trigger language plpgsql as $$
begin
  if new.v = 13 then raise exception 'no thirteen' using errcode = 'P0013', detail = 'd', hint = 'h', column = 'v', constraint = 'luck', table = 'a', schema = 'public'; end if;
  if new.v = 14 then return null; end if;
  if new.v = 15 then new.v := 1500; end if;
  return new;
end $$;
create trigger refuse before insert or update on a for each row execute function refuse();
insert into b values (1, 1), (2, 2), (3, 3);
-- capture
insert into a values (1, 1), (2, 2);
update a set v = v + 1;
update a set v = v where id = 1;
delete from a where id = 2;
insert into a values (3, 13);
insert into a values (3, 14) returning *;
insert into a values (3, 15) returning *;
insert into a values (4, 4) on conflict (id) do update set v = 5;
insert into a values (4, 4) on conflict (id) do update set v = 6;
begin;
insert into a values (5, 5);
set constraints deferred immediate;
insert into a values (6, 6);
set constraints all deferred;
insert into a values (7, 7);
set constraints all immediate;
insert into a values (8, 8);
commit;
begin;
insert into a values (9, 9);
savepoint s;
update a set v = 13 where id = 9;
rollback to s;
update a set v = 19 where id = 9;
commit;
begin;
insert into a values (10, 10);
rollback;
-- A deferred trigger that fails fails the commit.
create function late() returns trigger language plpgsql as $$ begin raise exception 'late % %', tg_op, new.id; end $$;
create constraint trigger late after insert on b deferrable initially deferred for each row execute function late();
begin;
insert into b values (20, 20);
select 'still here';
commit;
insert into b values (21, 21);
begin;
insert into b values (22, 22);
set constraints late immediate;
rollback;
drop trigger late on b;
-- A deferred trigger that writes a captured table at commit.
create function later() returns trigger language plpgsql as $$ begin update b set v = v + 100 where id = new.id % 3 + 1; raise notice 'later %', found; return null; end $$;
create constraint trigger later after insert on a deferrable initially deferred for each row execute function later();
begin;
insert into a values (30, 30), (31, 31);
select * from b order by id;
commit;
select * from b order by id;
truncate a;
alter table a disable trigger aaa_before;
insert into a values (40, 40);
alter table a enable replica trigger aaa_before;
insert into a values (41, 41);
set session_replication_role = replica;
insert into a values (42, 13);
update a set v = 0 where id = 42;
reset session_replication_role;
alter table a enable always trigger aaa_before;
delete from a where id = 42;
-- Triggers that change the row that is being written, and that remove it.
create function self() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' and pg_trigger_depth() = 1 then update b set v = -1 where id = new.id; raise notice 'own row: %', found; end if;
  if tg_op = 'UPDATE' and new.v = 99 then delete from b where id = new.id; raise notice 'removed: %', found; end if;
  return null;
end $$;
create trigger self after insert or update on b for each row execute function self();
insert into b values (50, 50);
update b set v = 99 where id = 50;
create function gone() returns trigger language plpgsql as $$ begin delete from b where id = old.id; return new; end $$;
create trigger gone before update on b for each row execute function gone();
update b set v = 5 where id = 1;
drop trigger gone on b;
create function skip_all() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger skip_all before insert on b for each row execute function skip_all();
insert into b values (60, 60) returning *;
copy b from stdin;
61	61
\.
select count(*) from log;
select what, count(*) from log group by what order by what;
