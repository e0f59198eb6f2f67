-- The bell that is in place: notify, wal or off, or '' where it is not as one of the
-- files leaves it; the one that meta names; and whether the log can be decoded.
select case
    when trigger_on and not published then 'notify'
    when well_published and not trigger_there then 'wal'
    when not trigger_there and not published then 'off'
    else ''
  end, m.bell, current_setting('wal_level')
from :"schema".meta m, (
  select coalesce(bool_or(true), false) as trigger_there, coalesce(bool_or(tgenabled = 'A'), false) as trigger_on
  from pg_catalog.pg_trigger where tgname = 'lockstep_announce' and tgrelid = pg_catalog.to_regclass(:'schema_quoted' || '.outbox')
) t, (
  select coalesce(bool_or(true), false) as published,
         coalesce(bool_or(p.pubinsert and not p.pubupdate and not p.pubdelete and not p.pubtruncate and not p.puballtables and w.well), false) as well_published
  from pg_catalog.pg_publication p cross join lateral (
    -- The view has its columns attnames and rowfilter from version 15 on.
    select pg_catalog.count(*) = 1 and bool_and(v.schemaname = :'schema' and v.tablename = 'outbox' and
             (current_setting('server_version_num')::integer < 150000
              or pg_catalog.to_jsonb(v) -> 'attnames' = '["seq"]' and pg_catalog.to_jsonb(v) ->> 'rowfilter' in ('lead', '(lead)'))) as well
    from pg_catalog.pg_publication_tables v where v.pubname = p.pubname) w
  where p.pubname = :'publication'
) b
