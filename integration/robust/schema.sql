-- The run's tables. All have the same columns, so that one type serves.

create sequence stamps;

create table account (id int primary key, region int not null default 0, v bigint not null default 0, body text not null default '', stamp text not null);
create table saving (like account including all);
create table item (like account including all);
create table echo (like account including all);
create table tail (like account including all);
create table wide (like account including all);
alter table wide alter body set storage external;
create table bulk (like account including all);
create table part (like account including all) partition by range (id);
create table part_low partition of part for values from (minvalue) to (100);
create table part_high partition of part for values from (100) to (maxvalue);
create table register (like account including all);

-- What a writer of one node hands to clients of the others: a token and what it wrote.
create table handoff (n bigint generated always as identity primary key, token text not null, id int not null, stamp text not null, node text not null);

-- The application's own deferred triggers: they write tables that are followed after
-- the transaction's own statements, the second one after the bell was rung.
create function later() returns trigger language plpgsql as $$
begin
  insert into echo values (new.id, 1, new.v, '', 's' || nextval('stamps'))
  on conflict (id) do update set v = echo.v + 1, region = 1, stamp = excluded.stamp;
  return null;
end $$;
create constraint trigger later after insert on item deferrable initially deferred for each row execute function later();
create function much_later() returns trigger language plpgsql as $$
begin
  update echo set region = 0, stamp = 's' || nextval('stamps') where id = new.id;
  return null;
end $$;
create constraint trigger much_later after insert or update on echo deferrable initially deferred
  for each row when (new.region = 1) execute function much_later();

-- A transaction that asks for it fails at its very end, after it has rung.
create function fail_late() returns trigger language plpgsql as $$
begin
  if new.id = -1 then
    raise exception 'failed at commit, as asked' using errcode = 'P0001';
  end if;
  return null;
end $$;
create table doomed (id int primary key);
create constraint trigger fail_late after insert on doomed deferrable initially deferred for each row execute function fail_late();

-- The witness: every change of every row (of table bulk who fills it tells how many there are), in the order in which it happened, with its
-- transaction. It is an ordinary table: what was rolled back or lost is not in it.
create table witness (n bigint generated always as identity primary key, xid bigint not null, tbl text not null, id int, state text);
create function witness() returns trigger language plpgsql as $$
begin
  if tg_op = 'TRUNCATE' then
    insert into witness (xid, tbl) values (pg_current_xact_id()::text::bigint, tg_argv[0]);
    return null;
  end if;
  if tg_op = 'DELETE' or (tg_op = 'UPDATE' and old.id <> new.id) then
    insert into witness (xid, tbl, id) values (pg_current_xact_id()::text::bigint, tg_argv[0], old.id);
  end if;
  if tg_op <> 'DELETE' then
    insert into witness (xid, tbl, id, state) values (pg_current_xact_id()::text::bigint, tg_argv[0], new.id,
      concat_ws(',', new.region, new.v, new.stamp, length(new.body) || ':' || md5(new.body)));
  end if;
  return null;
end $$;

do $$
declare t text;
begin
  foreach t in array '{account,saving,item,echo,tail,wide,part,register}'::text[] loop
    execute format('create trigger a_witness after insert or update or delete on %I for each row execute function witness(%L)', t, t);
    execute format('create trigger a_witness_truncate after truncate on %I for each statement execute function witness(%L)', t, t);
  end loop;
end $$;

insert into account select i, 0, 100, '', 'begin' from generate_series(1, 20) i;
insert into saving select i, 0, 100, '', 'begin' from generate_series(1, 20) i;
