-- Capture of tables of which some columns are left out: what install --exclude-columns names is
-- never copied. The rules are those of capture.sql, and so are the marks.
--
-- What is left out stands in the triggers' arguments, each column by its name and its number: {{ssn,5},{photo,7}}. A document is
-- made only while every one of them is found under both; one that was dropped before the last install has number -1, and
-- may not be found. Otherwise (it was renamed, dropped or made again,
-- or a dump has brought the table and given its columns other numbers) nobody can say here what is meant:
-- each row is captured by its key, R, and a node reads it from its table, until install has been run
-- again. Where one has become part of the primary key not even that is written, but R for the whole table.
-- So no change of the table's makes a column that was left out one that is captured.
--
-- Under one snapshot for the whole transaction the catalogue may be older than the table,
-- and a name in it not there any more: rows are captured by their key there as well.

-- The columns that are captured, as a select list of the row that image stands for; '' where rows
-- are to be captured by their key.
create or replace function :"schema".kept_columns(relid oid, without text[], image text) returns text
language sql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
  select coalesce(string_agg(format('%s.%I', image, a.attname), ', ' order by a.attnum), '')
  from pg_attribute a
  where a.attrelid = kept_columns.relid and a.attnum > 0 and not a.attisdropped
    and not exists (select from generate_subscripts(without, 1) i where without[i][2]::int2 = a.attnum)
    and not exists (
      select from generate_subscripts(without, 1) i
      where (without[i][2] = '-1') = exists (
        select from pg_attribute o
        where o.attrelid = kept_columns.relid and o.attname = without[i][1] and without[i][2] in ('-1', o.attnum::text) and not o.attisdropped))
    and not exists (
      select from pg_index x
      where x.indrelid = kept_columns.relid and x.indisprimary
        and (x.indkey::int2[])[:x.indnkeyatts - 1] && (select array_agg(without[i][2]::int2) from generate_subscripts(without, 1) i))
    and without is not null and current_setting('transaction_isolation') in ('read committed', 'read uncommitted')
$$;

-- Statement capture. Arguments: the registered name, the key columns as they were called at
-- install, and the columns that are left out.
create or replace function :"schema".capture_without() returns trigger
language plpgsql security definer
set search_path = pg_catalog, :"schema", pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set bytea_output = 'hex'
set extra_float_digits = 1 set lc_monetary = 'C' set jit = off
as $$
#variable_conflict use_variable
declare
  kind constant text := kind_of(tg_op);
  table_name constant text := coalesce(tg_argv[0], name_of(tg_relid));
  note constant text := coalesce(current_setting(noted(), true), '');
  this constant text := date_part('epoch', statement_timestamp()) || ',';
  lost constant boolean := note = '!' or case when note = '' then wiped() else false end;
  marked constant boolean := lost or marked_otherwise(note, this, tg_relid, kind);
  next_note constant text := note_with(note, this, tg_relid, kind);
  image constant text := case tg_op when 'DELETE' then 'old_rows' else 'new_rows' end;
  doubt boolean := marked; changed bigint; sql text; done text;
begin
  if not doubt then
    sql := kept_columns(tg_relid, tg_argv[2]::text[], 'i');
    doubt := sql = '';
  end if;
  if not doubt then
    execute format($sql$
      insert into outbox (table_name, op, lead, row)
      select $1, $2, %s, row_to_json(n.*) from (select %s from %I i offset 0) n
      where case when pg_column_size(n.*) > row_limit() then set_config('lockstep.big', '1', true) is null else true end
      $sql$, lead_sql(), sql, image) using table_name, left(tg_op, 1);
    get diagnostics changed = row_count;
    if current_setting('lockstep.big', true) = '1' then
      done := set_config('lockstep.big', '', true);
      doubt := true;
    elsif changed = 0 then
      return null;
    elsif tg_op = 'UPDATE' then
      sql := rekeyed_sql(tg_relid);
      if sql is null then
        doubt := true;
      else
        execute sql into doubt;
      end if;
    end if;
  end if;
  -- What was written above stays: what is written below comes after it.
  if doubt then
    sql := reread_sql(tg_relid, case tg_op when 'INSERT' then '{new_rows}'::text[]
                                           when 'DELETE' then '{old_rows}' else '{old_rows,new_rows}' end,
                      tg_argv[2]::text[]);
    if sql is not null then
      execute sql using table_name;
      get diagnostics changed = row_count;
    else
      execute format('select from %I limit 1', image);
      get diagnostics changed = row_count;
      if changed > 0 then
        perform write_reload(tg_relid);
      end if;
    end if;
  end if;
  if lost then
    perform note_lost();
  elsif changed > 0 and next_note <> note then
    done := set_config(noted(), next_note, true);
  end if;
  return null;
end
$$;

-- Row capture, for partitioned tables and those that a subscription feeds. Arguments: the registered name, and the
-- columns that are left out, with the numbers that they have in the root.
create or replace function :"schema".capture_row_without() returns trigger
language plpgsql security definer
set search_path = pg_catalog, :"schema", pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set bytea_output = 'hex'
set extra_float_digits = 1 set lc_monetary = 'C' set jit = off
as $$
#variable_conflict use_variable
declare
  root constant oid := coalesce(pg_partition_root(tg_relid)::oid, tg_relid);
  kind constant text := kind_of(tg_op);
  table_name constant text := coalesce(tg_argv[0], name_of(root));
  note constant text := coalesce(current_setting(noted(), true), '');
  this constant text := date_part('epoch', statement_timestamp()) || ',';
  lost constant boolean := note = '!' or case when note = '' then wiped() else false end;
  marked constant boolean := lost or marked_otherwise(note, this, root, kind);
  next_note constant text := note_with(note, this, root, kind);
  changed bigint := 0; sql text; done text; r record;
begin
  if tg_op = 'DELETE' then r := old; else r := new; end if;
  if tg_op <> 'UPDATE' and not marked then
    sql := kept_columns(root, tg_argv[1]::text[], '($3)');
    if sql <> '' then
      execute format($sql$
        insert into outbox (table_name, op, lead, row)
        select $1, $2, $4, row_to_json(n.*) from (select %s offset 0) n where pg_column_size(n.*) <= row_limit()
        $sql$, sql) using table_name, left(tg_op, 1), r, note in ('', 'k');
      get diagnostics changed = row_count;
    end if;
  end if;
  if changed > 0 then
    done := set_config(noted(), next_note, true);
    return null;
  end if;
  -- An UPDATE may have changed the key: both images give keys to look at.
  sql := reread_sql(root, case tg_op when 'INSERT' then '{$3}'::text[] when 'DELETE' then '{$2}' else '{$2,$3}' end, tg_argv[1]::text[]);
  if sql is null then
    perform write_reload(root);
  else
    execute sql using table_name, old, new;
  end if;
  if lost then
    perform note_lost();
  else
    done := set_config(noted(), next_note, true);
  end if;
  return null;
end
$$;
