-- Columns of many types, and what comes back of them.
create type mood as enum ('sad', 'ok', 'happy');
create type pair as (x int, y text);
create type span as range (subtype = float8);
create domain short as text check (length(value) < 10);
create domain pairs as pair;
create table t (
  id uuid primary key default '00000000-0000-0000-0000-000000000001', i2 smallint, i4 int, i8 bigint, n numeric(20, 5), f4 real, f8 float8,
  t text, vc varchar(5), c char(5), b bytea, bl boolean, d date, ti time, tz timetz, ts timestamp, tsz timestamptz, iv interval, m money,
  js json, jb jsonb, x xml, ar int[], ar2 text[][], mo mood, mos mood[], p pair, ps pair[], dp pairs, sh short, r int4range, mr tstzrange, sp span,
  bi bit(4), vb varbit, net inet, ci cidr, mac macaddr, pt point, bx box, poly polygon, tsv tsvector, tsq tsquery, o oid, rc regclass, xi xid8, ch "char", na name);
-- capture
insert into t default values returning *;
insert into t values ('00000000-0000-0000-0000-000000000002', 1, 2, 3, 4.5, 'nan', '-infinity', E'tab\t"quote" \\ back', 'x', 'y', '\x00ff', true,
  'infinity', '24:00', '12:00+05:30', '4713-01-01 BC', '2020-01-01 00:00+00', '-1 year 2 days', 12.34, '{"a":  [1, 2]}', '{"b": null, "a": 1}', '<a>x</a>', '{1,null,3}', '{{a,b},{c,d}}',
  'ok', '{sad,happy}', (1, 'two'), array[(1, 'x')::pair, null], (2, 'd'), 'short', '[1,5)', '(,infinity]', '[0.5,1.5]', '1010', '10101', '10.0.0.1/8', '10.0.0.0/8',
  '08:00:2b:01:02:03', '(1,2)', '((0,0),(1,1))', '((0,0),(1,1),(2,0))', 'a:1 b:2', 'a & b', 1, 'pg_class', '77', 'c', 'name') returning *;
update t set js = 'null', jb = 'null', t = '', ar = '{}' where i2 = 1 returning js, jb, t, ar;
update t set p.x = 5, ar[10] = 10, jb = jsonb_set(jb, '{}', '5') returning p, ar, jb;
update t set id = '00000000-0000-0000-0000-000000000003', o = 999999, rc = 999999 where i2 = 1 returning id, o, rc;
update t set sh = 'much too long for this';
update t set t = repeat('ü€😀', 3000), b = decode(repeat('00ff', 50000), 'hex') where i2 = 1 returning length(t), length(b);
update t set i4 = 5 where i2 = 1;
update t set id = '00000000-0000-0000-0000-000000000004' where i2 = 1;
insert into t (id, t) select ('00000000-0000-0000-0000-0000000001' || to_char(i, 'FM00'))::uuid, repeat(md5(i::text), 8000) from generate_series(10, 12) i;
update t set t = t || 'x' where i2 is null;
delete from t where t is not null returning id, length(t);
create table "Odd ""Name" ("Key" int primary key, "select" text, "lead" int, "row" int, "new_rows" int, "old_rows" int, n int, o int, i int, k int, c int, "ÄÖ" text);
create table many (id int primary key);
do $$ begin for i in 1..300 loop execute format('alter table many add column c%s int default %s', i, i); end loop; end $$;
insert into many (id) values (1), (2);
update many set id = id + 10\; update many set c300 = 5\; delete from many;
select length(t::text) from t;
copy t to stdout;
