-- What code in the database sees: FOUND, counts, cursors, procedures that commit.
create table a (id int primary key, v int);
create table b (id serial primary key, note text);
-- capture
do $$
declare n bigint; r record; c cursor for select * from a order by id for update; ids int[]; ctx text;
begin
  insert into a select i, i from generate_series(1, 5) i;
  get diagnostics n = row_count, ctx = pg_context; raise notice 'insert % % %', found, n, ctx;
  update a set v = v + 1 where id > 3;
  get diagnostics n = row_count; raise notice 'update % %', found, n;
  update a set v = v where id > 100;
  get diagnostics n = row_count; raise notice 'update % %', found, n;
  delete from a where id = 5 returning * into r;
  raise notice 'delete % %', found, r;
  insert into a values (6, 6) returning id into strict n;
  with w as (update a set v = 0 where id in (1, 6) returning id) select array_agg(id order by id) into ids from w;
  raise notice 'with % %', found, ids;
  execute 'update a set v = $1 where id = $2' using 42, 1;
  get diagnostics n = row_count; raise notice 'execute % %', found, n;
  perform from a where id = 1; raise notice 'perform %', found;
  for r in update a set v = v + 1 returning id, v loop raise notice 'loop %', r; end loop;
  raise notice 'after the loop %', found;
  for r in c loop
    if r.id = 2 then update a set v = 222 where current of c; elsif r.id = 3 then delete from a where current of c; end if;
  end loop;
  raise notice 'rows %', (select array_agg(a order by id) from a);
  begin
    delete from a returning id into strict n;
  exception when too_many_rows then raise notice '% %', sqlstate, sqlerrm;
  end;
  raise notice 'left %', (select count(*) from a);
end $$;
create function bump(k int, by int default 1) returns int language plpgsql as $$ declare o int; begin update a set v = v + by where id = k returning v into o; if not found then insert into a values (k, by) returning v into o; end if; return o; end $$;
create function bump_sql(k int) returns setof a language sql as $$ update a set v = v * 10 where id = k returning * $$;
select bump(1), bump(1), bump(77);
select * from bump_sql(77);
select bump_sql(1);
select bump(id, 100) from a order by id;
insert into b (note) select bump(id)::text from a order by id returning *;
update a set v = bump(77) where id = 1 returning *;
select count(*) from a where bump(77, 0) > 0;
create procedure batch(n int) language plpgsql as $$
begin
  for i in 1..n loop
    insert into b (note) values ('batch ' || i);
    if i % 2 = 0 then commit; else rollback; end if;
  end loop;
  insert into b (note) values ('rest');
end $$;
call batch(5);
select note from b where note ~ 'batch|rest' order by id;
begin;
call batch(2);
rollback;
do $$
begin
  for i in 1..3 loop
    insert into a values (100 + i, 0);
    begin insert into a values (100 + i, 1); exception when others then raise notice '% %', sqlstate, sqlerrm; end;
    commit;
  end loop;
end $$;
do $$
declare r record;
begin
  for r in select id from a order by id loop update a set v = -1 where id = r.id; commit; end loop;
  set transaction isolation level repeatable read;
  update a set v = -2 where id = 1;
end $$;
create procedure out_of(inout x int) language plpgsql as $$ begin update a set v = x where id = 1 returning v + 1 into x; end $$;
call out_of(5);
create function rows_of() returns table (k int, w int) language plpgsql as $$ begin return query update a set v = v + 1 returning id, v; raise notice 'found %', found; return query execute 'delete from a where id > 100 returning id, v'; end $$;
select * from rows_of() order by 1, 2;
create function strict_null(int) returns int strict language sql as 'select 1';
begin;
declare cur cursor with hold for select id, v from a order by id;
fetch 1 from cur;
update a set v = 1000;
commit;
fetch all from cur;
close cur;
begin;
declare cur no scroll cursor for select id, v from a for update;
fetch 1 from cur;
update a set v = 5 where current of cur returning *;
move next in cur;
delete from a where current of cur;
fetch backward 1 from cur;
fetch all from cur;
commit;
begin;
declare ret cursor for select bump(1);
fetch 1 from ret;
commit;
set plpgsql.extra_errors = 'all';
set plpgsql.extra_warnings = 'all';
update a set v = 8 where id = 1;
update a set id = 500 where id = 1;
update a set id = id + 1\; update a set id = id + 1\; insert into a values (900, 1)\; delete from a where id = 900;
set plpgsql.variable_conflict = 'use_column';
update a set id = id + 1\; update a set id = id + 1;
reset all;
select * from a order by id;
