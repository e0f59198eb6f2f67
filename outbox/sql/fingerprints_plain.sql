-- fingerprints.sql for tables that have no partitions and no types but Postgres' own, as that has told: the same facts, and so the
-- same text, for half of the work. A table that is no longer so has another fact (a child, a column), and another text.
with t as materialized (select u.relid, u.n from unnest($1::oid[]) with ordinality u(relid, n))
select t.n::int, coalesce(pg_catalog.hashtextextended((
    select string_agg(distinct f.fact, ',' order by f.fact)
    from (
      select 'c' || c.oid || ':' || c.xmin || ':' || c.relfilenode from pg_class c where c.oid = t.relid
      union all select 'a' || a.attrelid || '.' || a.attnum || ':' || a.xmin from pg_attribute a where a.attrelid = t.relid and a.attnum > 0
      union all select 'd' || d.oid || ':' || d.xmin from pg_attrdef d where d.adrelid = t.relid
      union all select 'i' || i.indexrelid || ':' || i.xmin from pg_index i where i.indrelid = t.relid
      union all select 'g' || g.oid || ':' || g.xmin from pg_trigger g where g.tgrelid = t.relid
      union all select 'h' || i.inhrelid || '<' || i.inhparent || ':' || i.xmin from pg_inherits i where i.inhrelid = t.relid
      union all select 'h' || i.inhrelid || '<' || i.inhparent || ':' || i.xmin from pg_inherits i where i.inhparent = t.relid
      union all select 's' || s.srsubid || ':' || s.srrelid from pg_subscription_rel s where s.srrelid = t.relid
      union all (select 'r' || r.name || ':' || r.xmin from :"schema".tables r join pg_class c on c.oid = r.relid where r.relid = t.relid offset 0)
    ) f(fact)), 0)::text, '')
from t order by t.n
