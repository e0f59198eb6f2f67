-- The tables of the central test: every way that is known to make capture
-- see changes in another order than they happened.

create table plain (id int primary key, v int not null default 0, note text);

-- Columns named like the aliases, columns and variables of capture.
create table odd (
  k int primary key, "lead" boolean, "row" text, op text, n int, o int, c int, i int, r int, t text, mark text, this text,
  sql text, new_rows int, old_rows int, xid int, seq int, table_name text, doc text, changed int, relid int, images text);

create table parent (id int primary key, v int not null default 0);
create table child (
  id int primary key, v int not null default 0,
  a int references parent on update cascade on delete cascade,
  b int references parent on update cascade on delete set null);

create table pa (a int primary key);
create table pb (b int primary key);
create table pair (
  a int references pa on update cascade on delete cascade,
  b int references pb on update cascade on delete cascade,
  v int not null default 0, primary key (a, b));

create table tree (id int primary key, up int references tree on update cascade on delete cascade, v int not null default 0);

create table part (id int, region int, v int not null default 0, primary key (id, region)) partition by list (region);
create table part_one partition of part for values in (1);
create table part_two partition of part for values in (2);
create table part_rest partition of part default;

create table "Trig Ö" (id int primary key, v int not null default 0, hits int not null default 0);

create function bump(k int) returns int language plpgsql as $$
begin
  update plain set v = v + 1 where id = k;
  insert into plain values (k + 1, 0, 'bumped') on conflict (id) do update set note = 'bumped';
  return k;
end $$;

-- Users' triggers that write the same table. They stop at a depth, not by what they find.
create function before_row() returns trigger language plpgsql as $$
begin
  new.hits := new.hits + 1;
  if pg_trigger_depth() < 2 and new.v % 5 = 0 then
    update "Trig Ö" set v = v + 1 where id = new.id + 1;
  end if;
  return new;
end $$;
create trigger a_before before insert or update on "Trig Ö" for each row execute function before_row();

create function after_row() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 3 then
    case new.v % 7
    when 0 then delete from "Trig Ö" where id = new.id;
    when 1 then update "Trig Ö" set v = v + 10 where id in (new.id, new.id + 2);
    when 2 then
      delete from "Trig Ö" where id = new.id;
      insert into "Trig Ö" values (new.id, 3, 0) on conflict do nothing;
    when 3 then update "Trig Ö" set id = id + 50 where id = new.id and not exists (select from "Trig Ö" where id = new.id + 50);
    else null;
    end case;
  end if;
  return null;
end $$;
create trigger a_after after insert or update on "Trig Ö" for each row execute function after_row();
create trigger z_after after update on "Trig Ö" for each row when (new.hits % 3 = 0) execute function after_row();

create function after_statement() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 2 then
    update "Trig Ö" set v = v + 1 where id % 4 = 0;
    delete from "Trig Ö" where id > 90;
  end if;
  return null;
end $$;
create trigger a_statement after update on "Trig Ö" for each statement execute function after_statement();
create trigger z_statement after insert or delete on "Trig Ö" for each statement execute function after_statement();

create function at_commit() returns trigger language plpgsql as $$
begin
  update plain set v = v + 100 where id = new.id % 20;
  update "Trig Ö" set hits = hits + 1 where id = new.id;
  return null;
end $$;
create constraint trigger later after insert on "Trig Ö" deferrable initially deferred for each row execute function at_commit();

create function parent_touch() returns trigger language plpgsql as $$
begin
  update child set v = v + 1 where a = new.id or b = new.id;
  return null;
end $$;
create trigger touch after update on parent for each row execute function parent_touch();

create view simple as select id, v from plain where id < 15;
create view ruled as select id, v from plain;
create rule ruled_insert as on insert to ruled do instead
  (insert into plain values (new.id, new.v) on conflict (id) do update set v = excluded.v; update plain set note = 'by rule' where id = new.id);
create rule ruled_delete as on delete to ruled do instead delete from plain where id = old.id;
