-- fingerprints.sql for tables that have no partitions and no types but Postgres' own, as that has told: the same facts, and so the
-- same text, for half of the work. A table that is no longer so has another fact (a child, a column), and another text.
with x(part, n) as materialized (select u.relid, u.n from unnest($1::oid[]) with ordinality u(relid, n))
select x.n::int, coalesce(pg_catalog.hashtextextended((
  select string_agg(distinct f.fact, ',' order by f.fact)
  from (
    \ir relation_facts.sql
    union all (
    \ir table_fact.sql
    )
  ) f(fact)), 0)::text, '')
from x order by x.n
