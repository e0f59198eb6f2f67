-- What has drifted: one row for each finding, (table or '', kind, what, mend).
-- $1 the functions' owner, $2 the trigger names: insert, update, delete, truncate, row.
with t as (
  -- Schemas of earlier versions have no column excluded.
  select t.relid, t.name, t.key_columns, t.mode, c.oid as now, c.relkind, c.relrowsecurity,
         coalesce((select pg_catalog.array_agg(array[e ->> 0, e ->> 1] order by n)
                   from pg_catalog.jsonb_array_elements(pg_catalog.to_jsonb(t) -> 'excluded') with ordinality x(e, n)), '{}') as excluded,
         pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as name_now
  from :"schema".tables t
  left join pg_catalog.pg_class c on c.oid = t.relid
  left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
),
-- Every trigger that a tracked table or a partition of it must have.
want as (
  select t.name, t.key_columns::text as keys, case pg_catalog.cardinality(t.key_columns) when 1 then '{' || pg_catalog.to_json(t.key_columns[1])::text || ':' else '' end as begins,
         t.relid as root, t.relid, w.tgname, w.fn, t.excluded::text as excluded
  from t
  cross join lateral (
    select ($2::text[])[i], case t.excluded when '{}' then 'capture' else 'capture_without' end from pg_catalog.generate_series(1, 3) i where t.mode = 'statement'
    union all select ($2::text[])[5], case t.excluded when '{}' then 'capture_row' else 'capture_row_without' end where t.mode = 'row'
    union all select ($2::text[])[4], 'capture_truncate') w(tgname, fn)
  where t.now is not null
  union all
  select t.name, '', '', t.relid, p.relid, w.tgname, w.fn, t.excluded::text
  from t cross join lateral pg_catalog.pg_partition_tree(t.relid) p
  join pg_catalog.pg_class c on c.oid = p.relid -- the function may know of a partition that is younger than our snapshot
  cross join lateral (values (($2::text[])[5], case t.excluded when '{}' then 'capture_row' else 'capture_row_without' end), (($2::text[])[4], 'capture_truncate')) w(tgname, fn)
  where t.relkind = 'p' and p.level > 0
),
have as (
  select w.*, g.oid as tgoid, g.tgenabled, p.proname, pn.nspname as fn_schema,
         g.tgargs not in (a.args, a.args || a.begins) as other_args,
         w.relid <> w.root as in_partition,
         (select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = w.relid) as place
  from want w
  -- A trigger's arguments are kept one behind another, each with a zero byte at its end. Earlier versions did
  -- not tell capture how a document begins, which it does not need.
  cross join lateral (
    select pg_catalog.convert_to(w.name, pg_catalog.getdatabaseencoding()) || z.zero ||
             case when w.fn in ('capture', 'capture_without') then pg_catalog.convert_to(w.keys, pg_catalog.getdatabaseencoding()) || z.zero else '' end ||
             case when w.fn in ('capture_without', 'capture_row_without') then pg_catalog.convert_to(w.excluded, pg_catalog.getdatabaseencoding()) || z.zero else '' end as args,
           case w.fn when 'capture' then pg_catalog.convert_to(w.begins, pg_catalog.getdatabaseencoding()) || z.zero else '' end as begins
    from (select pg_catalog.decode('00', 'hex') as zero) z) a
  left join pg_catalog.pg_trigger g on g.tgrelid = w.relid and g.tgname = w.tgname
  left join pg_catalog.pg_proc p on p.oid = g.tgfoid
  left join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
),
-- What has become of each column that is left out.
left_out as (
  select t.relid, t.name as table_name, x.n, x.name, a.attname as now,
         case when a.attname = x.name or x.number = '-1' and b.attnum is null then 'the same'
              when x.number = '-1' or a.attisdropped and b.attnum is not null then 'made again'
              when a.attisdropped then 'dropped'
              when b.attnum is null and a.attnum is not null then 'renamed' else 'unknown' end as fate
  from t cross join lateral unnest(t.excluded[:][1:1], t.excluded[:][2:2]) with ordinality x(name, number, n)
  left join pg_catalog.pg_attribute a on a.attrelid = t.relid and a.attnum = x.number::int2 and a.attnum > 0
  left join pg_catalog.pg_attribute b on b.attrelid = t.relid and b.attname = x.name and b.attnum > 0 and not b.attisdropped
  where t.now is not null
),
-- With the list that settles it where one cannot be told.
told as (
  select l.*, pg_catalog.string_agg(case when l.fate = 'unknown' then 'COLUMN' when l.fate = 'renamed' then pg_catalog.quote_ident(l.now)
                                         when l.fate = 'made again' or l.now = l.name then pg_catalog.quote_ident(l.name) end, ',')
              over (partition by l.relid order by l.n rows between unbounded preceding and unbounded following) as list
  from left_out l
)
select name as table_name, 'gone' as kind, 'there is no table of its oid any more' as what, 'lockstep install (registers it under the oid that it has now, or forgets it)' as mend
from t where now is null
union all
select name, 'renamed', 'it is called ' || name_now || ' now', 'lockstep install --table ' || name_now from t where name_now <> name
union all
select name, case when in_partition then 'partition without capture' else 'trigger missing' end,
       'trigger ' || tgname || ' is missing on ' || place, 'lockstep install --table ' || name
from have where tgoid is null
union all
select name, case tgenabled when 'D' then 'trigger disabled' else 'trigger not ALWAYS' end,
       'trigger ' || tgname || ' on ' || place || case tgenabled when 'D' then ' is disabled' else ' does not fire in every session_replication_role' end,
       'lockstep install --table ' || name
from have where tgenabled <> 'A'
union all
select name, 'trigger changed', 'trigger ' || tgname || ' on ' || place || ' runs ' || fn_schema || '.' || proname, 'lockstep install --table ' || name
from have where tgoid is not null and (proname <> fn or fn_schema <> :'schema')
union all
select name, 'trigger changed', 'trigger ' || tgname || ' on ' || place || ' has other arguments than were given to it', 'lockstep install --table ' || name
from have where other_args and proname = fn
union all
select t.name, 'key changed',
       'the primary key was (' || pg_catalog.array_to_string(t.key_columns, ', ') || ') and is (' || coalesce(k.list, 'none') || ')',
       'lockstep install --table ' || t.name
from t cross join lateral (
  select pg_catalog.array_agg(a.attname::text order by o.n) as cols, pg_catalog.string_agg(a.attname, ', ' order by o.n) as list
  from pg_catalog.pg_index x cross join lateral unnest((x.indkey::int2[])[:x.indnkeyatts - 1]) with ordinality o(attnum, n)
  join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = o.attnum
  where x.indrelid = t.relid and x.indisprimary) k
where t.now is not null and k.cols is distinct from t.key_columns
union all
select l.table_name, 'excluded column',
       'column ' || l.name || ', which is left out of capture, ' ||
         case l.fate when 'dropped' then 'is not there any more' when 'made again' then 'was dropped and made again'
                     when 'renamed' then 'is called ' || l.now || ' now' else 'cannot be told from others any more' end || ': rows are captured by their key',
       case l.fate when 'unknown' then 'lockstep install --exclude-columns ' || l.table_name || '=' || l.list else 'lockstep install --table ' || l.table_name end
from told l where l.fate <> 'the same'
union all
select t.name, 'fed by a subscription', 'a subscription feeds it, and apply workers fire no statement triggers', 'lockstep install --table ' || t.name
from t where t.mode = 'statement' and exists (select from pg_catalog.pg_subscription_rel s where s.srrelid = t.relid)
union all
select t.name, 'owner cannot read', 'role ' || $1 || ' may not read it, so rows written twice in one statement are sent by key', 'lockstep install --table ' || t.name
from t join pg_catalog.pg_roles r on r.rolname = $1
where t.now is not null and not pg_catalog.has_table_privilege(r.oid, t.relid, 'select')
union all
select '', 'wrong owner', 'function ' || p.proname || ' belongs to ' || r.rolname ||
         case when r.rolsuper then ', a superuser' when r.rolcanlogin then ', who can log in' else '' end,
       'lockstep install'
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace join pg_catalog.pg_roles r on r.oid = p.proowner
where n.nspname = :'schema' and p.proname in ('capture', 'capture_row', 'capture_without', 'capture_row_without', 'capture_truncate', 'announce')
  and (r.rolname <> $1 or r.rolsuper or r.rolcanlogin)
union all
select '', 'unguarded', 'table ' || :'schema_quoted' || '.' || o.name || ' takes in what replication brings', 'lockstep install'
from unnest('{outbox,tables,left_out,nodes,horizon,meta,relays}'::text[]) o(name)
where pg_catalog.to_regclass(:'schema_quoted' || '.' || o.name) is not null and not exists (select from pg_catalog.pg_trigger g where g.tgrelid = pg_catalog.to_regclass(:'schema_quoted' || '.' || o.name)
                  and g.tgname = 'lockstep_foreign' and g.tgenabled = 'R')
union all
select '', 'another cluster', 'the outbox was made in cluster ' || m.system_identifier || ' and this is ' || c.system_identifier,
       'lockstep install --new-history'
from :"schema".meta m, pg_catalog.pg_control_system() c where m.system_identifier <> c.system_identifier
order by 1, 2, 3
