-- Why a table cannot be kept right; no row: it can. $1 is its oid.
with recursive
rel as (
  select c.*, n.nspname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = $1
),
-- Every type that row_to_json meets in a row of it.
reach(col, typ) as (
  select a.attname::text, a.atttypid from pg_catalog.pg_attribute a join rel on a.attrelid = rel.oid
  where a.attnum > 0 and not a.attisdropped
  union
  select r.col, x.typ from reach r join pg_catalog.pg_type t on t.oid = r.typ
  cross join lateral (
    select t.typelem where t.typelem <> 0 and t.typlen = -1
    union all select t.typbasetype where t.typbasetype <> 0
    union all select m.atttypid from pg_catalog.pg_attribute m
      where t.typrelid <> 0 and m.attrelid = t.typrelid and m.attnum > 0 and not m.attisdropped
  ) x(typ)
),
pk as (
  select x.* from pg_catalog.pg_index x join rel on x.indrelid = rel.oid where x.indisprimary
),
keys as (
  select a.attname::text as col, a.atttypmod, t.typtypmod, oc.opcintype, oc.opcname,
         (select p.amproc::oid from pg_catalog.pg_amproc p
          where p.amprocfamily = oc.opcfamily and p.amprocnum = 4
            and p.amproclefttype = oc.opcintype and p.amprocrighttype = oc.opcintype) as equalimage,
         (select co.collisdeterministic from pg_catalog.pg_collation co where co.oid = k.coll) as deterministic
  from pk cross join lateral unnest(pk.indkey::int2[], pk.indclass::oid[], pk.indcollation::oid[]) k(attnum, opclass, coll)
  join pg_catalog.pg_attribute a on a.attrelid = pk.indrelid and a.attnum = k.attnum
  join pg_catalog.pg_type t on t.oid = a.atttypid
  join pg_catalog.pg_opclass oc on oc.oid = k.opclass
)
select case relkind
         when 'v' then 'it is a view: name the tables below it'
         when 'm' then 'it is a materialized view: REFRESH fires no triggers'
         when 'f' then 'it is a foreign table: it changes without this server knowing'
         when 'S' then 'it is a sequence'
         else 'it is not a table' end
from rel where relkind not in ('r', 'p')
union all
select 'it belongs to the system' from rel where nspname in ('pg_catalog', 'information_schema', 'pg_toast')
union all
select 'it is one of lockstep''s own tables' from rel where nspname = $2
union all
select case relpersistence when 't' then 'it is temporary: other sessions cannot read it'
                           else 'it is unlogged: a crash empties it without an event (ALTER TABLE ... SET LOGGED)' end
from rel where relkind in ('r', 'p') and relpersistence <> 'p'
union all
select 'it is a partition: name its root ' || pg_catalog.pg_partition_root(oid)::text from rel where relispartition
union all
select 'it has a table that inherits from it: rows of the child would be read with it but not captured'
from rel where relkind = 'r' and exists (select from pg_catalog.pg_inherits where inhparent = rel.oid)
union all
select 'it inherits from another table: statements on the parent change it without firing its triggers'
from rel where not relispartition and exists (select from pg_catalog.pg_inherits where inhrelid = rel.oid)
union all
select 'it has no primary key: rows cannot be told apart' from rel where relkind in ('r', 'p') and not exists (select from pk)
union all
select 'its primary key is DEFERRABLE: an insert need not wait for the delete before it' from pk where not indimmediate
union all
select pg_catalog.format('key column %I: two values of its type can be equal and still look different (operator class %s), so keys cannot be compared as images', col, opcname)
from keys where equalimage is null
  or equalimage not in ('pg_catalog.btequalimage'::regproc, 'pg_catalog.btvarstrequalimage'::regproc)
union all
select pg_catalog.format('key column %I: its collation is not deterministic, so two different texts can be one key', col)
from keys where not deterministic
union all
select pg_catalog.format('key column %I: character without a length ignores trailing blanks (give it a length, or use text)', col)
from keys where opcintype = 'pg_catalog.bpchar'::regtype and atttypmod = -1 and typtypmod = -1
union all
select pg_catalog.format('column %I is a virtual generated column: triggers see NULL for it (make it STORED)', a.attname)
from pg_catalog.pg_attribute a join rel on a.attrelid = rel.oid where a.attnum > 0 and not a.attisdropped and a.attgenerated = 'v'
union all
select distinct pg_catalog.format('column %I: type %s has a cast to json of its own, which capture would run', r.col, pg_catalog.format_type(r.typ, null))
from reach r join pg_catalog.pg_cast c on c.castsource = r.typ
where c.casttarget = 'pg_catalog.json'::regtype and c.castfunc <> 0
  and r.typ >= 16384
