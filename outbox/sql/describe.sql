-- A followed table as it is now; no row: the name finds nothing. $1 is the
-- name as SQL writes it.
select c.oid, n.nspname, c.relname, c.relkind = 'p',
       (select t.name from :"schema".tables t where t.relid = c.oid),
       coalesce((select array_agg(a.attname::text order by o.n)
                 from pg_index x cross join lateral unnest((x.indkey::int2[])[:x.indnkeyatts - 1]) with ordinality o(attnum, n)
                 join pg_attribute a on a.attrelid = x.indrelid and a.attnum = o.attnum
                 where x.indrelid = c.oid and x.indisprimary), '{}'),
       (select array_agg(a.attname::text order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       (select array_agg(a.atttypid order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       (select array_agg(a.attnotnull order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       (select array_agg(a.attgenerated <> '' order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       (select array_agg(a.attidentity = 'a' order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       -- A domain may bring NOT NULL (its own, or that of the domain below it) and a default (its own).
       (select array_agg((a.attnotnull or not_null.domain) and not a.atthasdef and a.attidentity = '' and ty.typdefault is null order by a.attnum)
        from pg_attribute a join pg_type ty on ty.oid = a.atttypid
        cross join lateral (
          with recursive below(base, required) as (
            select ty.typbasetype, ty.typnotnull
            union all
            select t.typbasetype, t.typnotnull from below join pg_type t on t.oid = below.base)
          select coalesce(bool_or(required), false) as domain from below) not_null
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       -- Whatever the search path: a type's name for a column that is declared by hand.
       (select array_agg(pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(ty.typname) order by a.attnum)
        from pg_attribute a join pg_type ty on ty.oid = a.atttypid join pg_namespace tn on tn.oid = ty.typnamespace
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       pg_catalog.has_table_privilege(c.oid, 'select'), pg_catalog.row_security_active(c.oid),
       -- Left out of capture: what has the name or the number of such a column. Schemas of earlier versions know of none.
       (select array_agg(exists (
                 select from :"schema".tables t cross join lateral pg_catalog.jsonb_array_elements(pg_catalog.to_jsonb(t) -> 'excluded') e
                 where t.relid = c.oid and (e ->> 0 = a.attname or e ->> 1 = a.attnum::text)) order by a.attnum)
        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.oid = pg_catalog.to_regclass($1)
