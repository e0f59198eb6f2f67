-- For each table: whatever in the catalogues bears on its data or its capture,
-- as the xmin of the rows that say so. $1 are the tables' oids, in order; a
-- table that is gone has an empty fingerprint.
with recursive
t as (select u.relid, u.n from unnest($1::oid[]) with ordinality u(relid, n)),
tree(relid, n, part) as (
  select relid, n, relid from t
  union
  select x.relid, x.n, i.inhrelid from tree x join pg_inherits i on i.inhparent = x.part
),
types(n, typ) as (
  select x.n, a.atttypid from tree x join pg_attribute a on a.attrelid = x.part where a.attnum > 0 and not a.attisdropped
  union
  select y.n, z.typ from types y join pg_type p on p.oid = y.typ
  cross join lateral (
    select p.typelem where p.typelem <> 0
    union all select p.typbasetype where p.typbasetype <> 0
    union all select a.atttypid from pg_attribute a where p.typrelid <> 0 and a.attrelid = p.typrelid and a.attnum > 0 and not a.attisdropped
    union all select r.rngsubtype from pg_range r where r.rngtypid = p.oid
  ) z(typ)
),
facts(n, fact) as (
  select x.n, 'c' || c.oid || ':' || c.xmin || ':' || c.relfilenode from tree x join pg_class c on c.oid = x.part
  union all select x.n, 'a' || a.attrelid || '.' || a.attnum || ':' || a.xmin from tree x join pg_attribute a on a.attrelid = x.part where a.attnum > 0
  union all select x.n, 'd' || d.oid || ':' || d.xmin from tree x join pg_attrdef d on d.adrelid = x.part
  union all select x.n, 'i' || i.indexrelid || ':' || i.xmin from tree x join pg_index i on i.indrelid = x.part
  union all select x.n, 'g' || g.oid || ':' || g.xmin from tree x join pg_trigger g on g.tgrelid = x.part
  union all select x.n, 'h' || i.inhrelid || '<' || i.inhparent || ':' || i.xmin from tree x join pg_inherits i on i.inhrelid = x.part or i.inhparent = x.part
  union all select x.n, 's' || s.srsubid || ':' || s.srrelid from tree x join pg_subscription_rel s on s.srrelid = x.part
  union all select y.n, 'e' || e.oid || ':' || e.xmin from types y join pg_enum e on e.enumtypid = y.typ
  union all select y.n, 't' || p.oid || ':' || p.xmin from types y join pg_type p on p.oid = y.typ where p.oid >= 16384
  union all select y.n, 'm' || a.attrelid || '.' || a.attnum || ':' || a.xmin
    from types y join pg_type p on p.oid = y.typ join pg_attribute a on a.attrelid = p.typrelid where p.oid >= 16384 and p.typrelid <> 0 and a.attnum > 0
  union all select t.n, 'r' || r.name || ':' || r.xmin from t join :"schema".tables r on r.relid = t.relid join pg_class c on c.oid = t.relid
)
select t.n::int, coalesce((select pg_catalog.hashtextextended(string_agg(f.fact, ',' order by f.fact), 0)::text from facts f where f.n = t.n), '')
from t order by t.n
