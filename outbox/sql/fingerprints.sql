-- For each table: whatever in the catalogues bears on its data or its capture,
-- as the xmin of the rows that say so. $1 are the tables' oids, in order; a
-- table that is gone has an empty fingerprint.
--
-- Every node asks this every few seconds for as long as it lives, so each catalogue is asked by an index for
-- one relation or type at a time (offset 0: it is not made a join, for which the planner reads
-- the whole catalogue), and nothing is made unique on the way, for which the executor prepares a table as large as the planner's
-- guess. The third column tells that a table has no partitions and no types but Postgres' own: of such, fingerprints_plain.sql makes the
-- same text. Neither partitions nor types lead back to themselves. Types of Postgres' own (below 16384) lead to none that could change.
with recursive
t as materialized (select u.relid, u.n from unnest($1::oid[]) with ordinality u(relid, n)),
tree(n, part) as (
  select t.n, t.relid from t
  union all
  select x.n, i.inhrelid from tree x cross join lateral (select i.inhrelid from pg_inherits i where i.inhparent = x.part offset 0) i
),
types(n, typ) as (
  select x.n, a.atttypid
  from tree x cross join lateral (
    select a.atttypid from pg_attribute a where a.attrelid = x.part and a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384 offset 0) a
  union all
  select y.n, z.typ from types y cross join lateral (
    select p.typelem from pg_type p where p.oid = y.typ
    union all select p.typbasetype from pg_type p where p.oid = y.typ
    union all select a.atttypid from pg_type p join pg_attribute a on a.attrelid = p.typrelid and a.attnum > 0 where p.oid = y.typ and p.typrelid <> 0
    union all select r.rngsubtype from pg_range r where r.rngtypid = y.typ
    union all select r.rngtypid from pg_range r where r.rngmultitypid = y.typ
  ) z(typ)
  where z.typ >= 16384
),
facts(n, fact) as (
  select x.n, f.fact from tree x cross join lateral (
    \ir relation_facts.sql
  ) f(fact)
  union all
  select y.n, f.fact from types y cross join lateral (
    select 'e' || e.oid || ':' || e.xmin from pg_enum e where e.enumtypid = y.typ
    union all select 't' || p.oid || ':' || p.xmin from pg_type p where p.oid = y.typ
    union all select 'm' || a.attrelid || '.' || a.attnum || ':' || a.xmin
      from pg_type p join pg_attribute a on a.attrelid = p.typrelid and a.attnum > 0 where p.oid = y.typ and p.typrelid <> 0
  ) f(fact)
  union all
  select x.n, f.fact from t x(part, n) cross join lateral (
    \ir table_fact.sql
  ) f(fact)
)
select t.n::int, coalesce(pg_catalog.hashtextextended(string_agg(distinct f.fact, ',' order by f.fact), 0)::text, ''),
       (select count(*) from tree x where x.n = t.n) = 1 and not exists (select from types y where y.n = t.n)
from t left join facts f on f.n = t.n group by t.n order by t.n
