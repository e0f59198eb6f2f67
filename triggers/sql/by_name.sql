-- The register follows the tables' names. A dump keeps these, and the triggers with
-- what they were told, but not the oids: what was registered under another oid is registered
-- again, and forgotten is what is not there any more, or whose oid has become another one's.
with captured as (
  select g.tgrelid as relid, g.tgargs as args
  from pg_catalog.pg_trigger g join pg_catalog.pg_proc p on p.oid = g.tgfoid join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname = :'schema' and p.proname in ('capture', 'capture_row', 'capture_without', 'capture_row_without') and g.tgparentid = 0
),
moved as (
  select distinct c.relid, t.name
  from :"schema".tables t
  cross join lateral (select pg_catalog.convert_to(t.name, pg_catalog.getdatabaseencoding()) || '\x00'::bytea as arg) a
  join captured c on c.relid = pg_catalog.to_regclass(t.name)::oid and pg_catalog.substring(c.args, 1, pg_catalog.length(a.arg)) = a.arg
  where c.relid <> t.relid
),
old as (
  delete from :"schema".tables t
  where exists (select from moved m where m.name = t.name or m.relid = t.relid)
     or not exists (select from pg_catalog.pg_class c where c.oid = t.relid)
     or not exists (select from captured c where c.relid = t.relid) and pg_catalog.to_regclass(t.name)::oid is distinct from t.relid
  returning t.*
)
insert into :"schema".tables (relid, name, key_columns, mode, excluded)
select m.relid, o.name, o.key_columns, o.mode, e.excluded
from moved m join old o on o.name = m.name
cross join lateral (
  -- Columns have other numbers after a dump. One that is not found by its name has none, 0, until install is told which it is,
  -- unless it was not there before (-1).
  select coalesce(pg_catalog.array_agg(array[o.excluded[i][1], coalesce(a.attnum::text, case o.excluded[i][2] when '-1' then '-1' else '0' end)] order by i), '{}') as excluded
  from pg_catalog.generate_subscripts(o.excluded, 1) i
  left join pg_catalog.pg_attribute a on a.attrelid = m.relid and a.attname = o.excluded[i][1] and a.attnum > 0 and not a.attisdropped) e
where (select count(*) from old) > 0; -- all of them are deleted before the first is inserted
