-- Errors: their codes, words and places, and what is left after them.
create domain positive as int check (value > 0);
create type mood as enum ('sad', 'ok');
create table a (id int primary key, v text not null, n positive, m mood, u int unique, x int check (x <> 5),
  during int4range, exclude using gist (during with &&), late int unique deferrable initially deferred, g int generated always as (x * 2) stored,
  i int generated always as identity, b varchar(3));
insert into a (id, v) values (1, 'one');
create view view_of_a as select id, v from a with check option;
-- capture
insert into a (id, v) values (1, 'dup');
insert into a (id) values (2);
insert into a (id, v, n) values (2, 'v', -1);
insert into a (id, v, m) values (2, 'v', 'angry');
insert into a (id, v, x) values (2, 'v', 5);
insert into a (id, v, u) values (2, 'v', 1), (3, 'v', 1);
insert into a (id, v, during) values (2, 'v', '[1,5)'), (3, 'v', '[4,8)');
insert into a (id, v, b) values (2, 'v', 'abcd');
insert into a (id, v, g) values (2, 'v', 1);
insert into a (id, v, i) values (2, 'v', 1);
insert into a (id, v, i) overriding system value values (2, 'v', 900) returning id, i;
insert into a (id, v, nothing) values (2, 'v', 1);
insert into a values (1);
insert into nowhere values (1);
update a set id = 1/0;
update a set v = null;
update a set g = 4;
update a set i = 4;
update a set id = 1;
update a set nothing = 1;
delete from a where nothing = 1;
delete from a where v = 1;
insert into a (id, v, late) values (3, 'v', 1), (4, 'v', 1);
begin;
insert into a (id, v, late) values (3, 'v', 1), (4, 'v', 1);
update a set late = 2 where id = 4;
commit;
begin;
update a set late = case late when 1 then 2 else 1 end where late is not null;
commit;
begin;
update a set late = 7 where id in (3, 4);
select 'until the commit';
commit;
begin;
insert into a (id, v) values (1, 'dup');
insert into a (id, v) values (5, 'in a failed transaction');
savepoint s;
commit;
begin;
savepoint s;
insert into a (id, v) values (1, 'dup');
rollback to s;
insert into a (id, v) values (5, 'after');
savepoint s;
insert into a (id, v) values (6, 'inner');
rollback to nothing;
rollback to s;
commit;
create function div(n int) returns int language plpgsql as $$ begin return 10 / n; end $$;
insert into a (id, v) select 10 + i, div(2 - i)::text from generate_series(0, 4) i;
do $$
declare code text; con text; tab text; sch text; col text; det text; ctx text; msg text; typ text;
begin
  insert into a (id, v) values (20, 'kept');
  begin
    insert into a (id, v) values (21, 'lost');
    insert into a (id, v) values (20, 'dup');
  exception when unique_violation then
    get stacked diagnostics code = returned_sqlstate, con = constraint_name, tab = table_name, sch = schema_name, det = pg_exception_detail, ctx = pg_exception_context, msg = message_text;
    raise notice '% | % | % | % | % | % | %', code, con, tab, sch, det, ctx, msg;
  end;
  begin
    update a set n = -5 where id = 20;
  exception when check_violation then
    get stacked diagnostics typ = pg_datatype_name, con = constraint_name, col = column_name;
    raise notice '% | % | %', typ, con, col;
  end;
  begin
    delete from a where id = 20;
    raise exception using errcode = 'ABCDE', message = 'own';
  exception when sqlstate 'ABCDE' then
    raise notice 'there still: %', (select count(*) from a where id = 20);
  end;
  begin
    assert (select count(*) from a) < 0, 'an assertion';
  exception when assert_failure then raise notice '%', sqlerrm;
  end;
end $$;
select id, v from a order by id;
insert into view_of_a values (30, 'by view') returning *;
select * from a where id = (select id from a);
insert into a (id, v) values (31, 'x') returning 1/(id - 31);
select count(*) from a where id = 31;
insert into a (id, v) values (generate_series(40, 42), 'set') returning id;
insert into a (id, v) values (2147483648, 'x');
insert into a (id, v) values ('y', 'x');
-- bind 50 | with a zero byte would be refused
insert into a (id, v) values ($1, $2), ($1, $2);
alter table a alter column v type int using v::int;
alter table a drop column id cascade;
