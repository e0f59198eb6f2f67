-- Capture: what the triggers on the application's tables run.
--
-- The rules that every function here keeps:
--  1. The application's write never fails because of capture. Names of columns
--     are looked up when they are needed, never compiled in; where there is any
--     doubt the event is R: "read this row, or this table, again".
--  2. What is stored does not depend on the writer's settings: they are pinned.
--  3. The order of the events of one row is the order in which it changed. The
--     first capture of a table within one client statement may trust its
--     transition tables, and so may INSERTs, or DELETEs, that follow none but their own kind; any other
--     capture, and any UPDATE that changed a key, writes what is there now instead (mark, below).
--  4. A statement that changed no row draws no transaction id and leaves nothing.
--
-- Function bodies name no schema: search_path finds our own tables, pg_catalog
-- first, pg_temp last.

-- Rows whose stored form is larger than this many bytes are captured by their
-- key. Compressed bytes can grow 255-fold (lz4) and JSON can spend six bytes
-- for one, and a value of 1 GB is an error: 128 kB, the most, keeps a document below 200 MB.
create or replace function :"schema".row_limit() returns integer
language sql immutable parallel safe
return :'row_limit'::integer;

-- The name of the setting in which a transaction keeps its note (below). It carries the oid of the
-- outbox, since there may be two. It is a constant to whoever plans a call of it.
select set_config('lockstep.install_schema', :'schema', true);
do $do$
declare
  ours constant text := current_setting('lockstep.install_schema');
begin
  execute format('create or replace function %I.noted() returns text language sql immutable parallel safe return %L::text',
                 ours, concat('lockstep.marks', format('%I.outbox', ours)::regclass::oid));
end
$do$;

-- The registered name of a table; for one that is not registered any more, the
-- name that it has now.
create or replace function :"schema".name_of(relid oid) returns text
language sql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
  select coalesce(
    (select t.name from tables t where t.relid = name_of.relid),
    (select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = name_of.relid limit 1), -- see readable
    '?')
$$;

-- A transaction keeps a note of what was captured in it: a setting that is local
-- to the transaction, so that a rolled back savepoint takes back the note
-- together with its events. It says:
--   k                      nothing was captured yet in this transaction
--   1                      something was, whatever was captured in this statement
--   <statement>,<oid>,...  that, and the tables captured in the client statement that began
--                          then (statement_timestamp() in seconds), each followed by a comma; behind an
--                          oid I stands where it was captured by INSERTs alone, D by DELETEs alone
--   !                      the marks are lost: none of the transaction's captures trusts its transition tables
-- k is what the session keeps between transactions. RESET ALL, in a function of the
-- application's, empties the note in the middle of a statement, and what the session keeps
-- as well. So where it is empty, as it is at first in a session, the outbox is asked whether the
-- transaction has events: if so, which tables are marked is not known any more.
-- Under SERIALIZABLE nothing is read, since that would count as read by the
-- application: the worst is taken for true.
create or replace function :"schema".wiped() returns boolean
language plpgsql
set search_path = pg_catalog, :"schema", pg_temp
as $$
begin
  if current_setting('transaction_isolation') = 'serializable'
     or exists (select from outbox o where o.xid = pg_current_xact_id_if_assigned()) then
    return true;
  end if;
  perform set_config(noted(), 'k', false);
  return false;
end
$$;

-- Notes that the marks are lost, once an event has been written and taken the lead;
-- until then the note stays empty and the next capture asks again.
create or replace function :"schema".note_lost() returns void
language plpgsql
set search_path = pg_catalog, :"schema", pg_temp
as $$
begin
  if coalesce(current_setting(noted(), true), '') <> '' then
    perform set_config(noted(), 'k', false); -- what the session keeps; the next line covers it until the transaction ends
    perform set_config(noted(), '!', true);
  end if;
end
$$;

-- Whether this is the first event of the transaction, in the order in which rows are inserted: for each that will be, once.
-- SQL that is planned each time it runs has the expression itself, by lead_sql: to have a call of leads inlined, which
-- is for SQL that is planned once, takes three times as long.
create or replace function :"schema".lead_sql() returns text
language sql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
  select format('case when coalesce(current_setting(%1$L, true), %2$L) in (%2$L, %3$L) then set_config(%1$L, %4$L, true) is not null else false end',
                noted(), '', 'k', '1')
$$;
create or replace function :"schema".leads() returns boolean
language sql volatile
return case when coalesce(pg_catalog.current_setting(:"schema".noted(), true), '') operator(pg_catalog.=) any (array['', 'k'])
            then pg_catalog.set_config(:"schema".noted(), '1', true) is not null else false end;

-- The columns of the primary key, {{name,operator,number},...}: NULL, there is none. The operator is that of the key's own
-- index, by its schema: nothing that a search_path could change decides here. It is empty where one that is not
-- Postgres' own may not be used.
--
-- Names are those of now: in a transaction with one snapshot the rows of the catalogue can be older than
-- the table. (An index that is not there any more has none.)
--
-- Postgres' own operator classes, whose numbers are below 16384, compare keys by pg_catalog.=, and need not be
-- looked up, which takes ten times as long. (That of row images does not, but a primary key has a type's default class.)
create or replace function :"schema".key_of(relid oid) returns text[]
language plpgsql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
#variable_conflict use_variable
declare
  columns text[] := '{}'; name text; operator text; x record;
begin
  select i.indexrelid, i.indkey, i.indclass, i.indnkeyatts into x from pg_index i where i.indrelid = relid and i.indisprimary;
  if not found then
    return null;
  end if;
  for n in 1..x.indnkeyatts loop
    name := (parse_ident(pg_get_indexdef(x.indexrelid, n, false)))[1];
    if name is null then
      return null;
    end if;
    operator := 'pg_catalog.=';
    if x.indclass[n - 1] >= 16384 then
      select case when has_schema_privilege(s.oid, 'usage') and has_function_privilege(o.oprcode, 'execute')
                  then format('%I.%s', s.nspname, o.oprname) else '' end
      into operator
      from pg_opclass c
      join pg_amop a on a.amopfamily = c.opcfamily and a.amopstrategy = 3 and a.amoplefttype = c.opcintype and a.amoprighttype = c.opcintype
      join pg_operator o on o.oid = a.amopopr
      join pg_namespace s on s.oid = o.oprnamespace
      where c.oid = x.indclass[n - 1];
    end if;
    columns := columns || array[array[name, coalesce(operator, ''), x.indkey[n - 1]::text]];
  end loop;
  return columns;
end
$$;

-- The table, for a FROM; NULL where capture may not read it whole: rights, also on the schema that somebody
-- has moved it to, row-level security, and SERIALIZABLE, where what capture reads counts as read by the application, and
-- a plan that reads the whole table makes transactions fail that have nothing to do with each other.
create or replace function :"schema".readable(relid oid) returns text
language plpgsql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
#variable_conflict use_variable
declare
  target constant text := relid::regclass; -- with its schema, which is not in search_path
begin
  if current_setting('transaction_isolation') = 'serializable' or not has_schema_privilege((parse_ident(target))[1], 'usage')
     or not has_table_privilege(relid, 'select') or row_security_active(relid) then
    return null;
  end if;
  -- One version of two: under one snapshot for the whole transaction one that another transaction has replaced is
  -- visible beside our own.
  return case (select r.relkind from pg_class r where r.oid = relid limit 1) when 'p' then '' else 'only ' end || target;
end
$$;

-- The SQL that reads the row whose key is that of all the given images (as in reread_sql), each of one row, as a document;
-- too large a row has none. NULL: what is there is to be written by reread_sql.
create or replace function :"schema".point_sql(relid oid, images text[]) returns text
language plpgsql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
#variable_conflict use_variable
declare
  key constant text[] := key_of(relid); target constant text := readable(relid); image text; sql text;
begin
  if key is null or target is null or current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    return null;
  end if;
  sql := format('select case when pg_column_size(c.*) <= %s then row_to_json(c.*) end from %s c where true', row_limit(), target);
  foreach image in array images loop
    for n in 1..array_length(key, 1) loop
      if key[n][2] = '' then
        return null;
      end if;
      sql := sql || format(case when image like '$%' then ' and c.%1$I operator(%2$s) (%3$s).%1$I'
                                else ' and c.%1$I operator(%2$s) (select i.%1$I from %3$I i)' end, key[n][1], key[n][2], image);
    end loop;
  end loop;
  return sql;
end
$$;

-- The SQL that writes what is there now: for every key in the given images
-- (names of transition tables, or '$2' and '$3' for single rows) U with the
-- current row, or D with the key if there is none. $1 is the table's name.
-- Where the table may not be read (readable) it writes R with the key. NULL: the table has no primary key now, nothing
-- can be said by key.
--
-- without are the columns that are left out of capture, as {{name,number},...}: '{}', none is; NULL,
-- nobody can say which. The document is made of the others (kept_columns, capture_without.sql); where they
-- cannot be told it is R with the key. NULL as well: a column of the key is left out, and may not be written.
create or replace function :"schema".reread_sql(relid oid, images text[], without text[]) returns text
language plpgsql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
#variable_conflict use_variable
declare
  key constant text[] := key_of(relid);
  kept constant text := case when without = '{}' then null else kept_columns(relid, without, 'c') end;
  target text := readable(relid); name text; image text; list text; same text; doc text; keys text; present text;
begin
  if key is null then
    return null;
  end if;
  for n in 1..array_length(key, 1) loop
    name := key[n][1];
    if name = any (without[:][1:1]) or key[n][3] = any (without[:][2:2]) then
      return null;
    end if;
    if key[n][2] = '' then
      target := null;
    end if;
    same := concat(same || ' and ', format('c.%I operator(%s) k.k%s', name, key[n][2], n));
    doc := concat(doc || ', ', format('%L, k.k%s', name, n));
  end loop;
  doc := format('json_build_object(%s)', doc);
  foreach image in array images loop
    list := null;
    for n in 1..array_length(key, 1) loop
      list := concat(list || ', ', format(case when image like '$%' then '(%s).%I as k%s' else 'i.%2$I as k%3$s' end, image, key[n][1], n));
    end loop;
    keys := concat(keys || ' union ', format(case when image like '$%' then 'select %s' else 'select %s from %I i' end, list, image));
  end loop;
  if target is null or kept = '' then
    return format('insert into outbox (table_name, op, lead, row) select $1, %L, %s, %s from (%s) k', 'R', lead_sql(), doc, keys);
  end if;
  if kept <> '' then
    target := format('(select %s from %s c)', kept, target);
  end if;
  present := format('c.%I is not null', key[1][1]);
  -- Under one snapshot for the whole transaction a key can show a row that
  -- another transaction has deleted since, beside ours or instead of it: what is
  -- there can only be read in a later snapshot. Nothing there is nothing there:
  -- had another transaction put it there, we could not have touched it.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    return format($sql$
      insert into outbox (table_name, op, lead, row)
      select $1, case when exists (select from %1$s c where %2$s) then 'R' else 'D' end, %3$s, %4$s from (%5$s) k
      $sql$, target, same, lead_sql(), doc, keys);
  end if;
  return format($sql$
    insert into outbox (table_name, op, lead, row)
    select $1, case when %1$s then case when pg_column_size(c.*) > %7$s then 'R' else 'U' end else 'D' end, %2$s,
           case when %1$s and pg_column_size(c.*) <= %7$s then row_to_json(c.*) else %3$s end
    from (%4$s) k left join %5$s c on %6$s
    $sql$, present, lead_sql(), doc, keys, target, same, row_limit());
end
$$;

create or replace function :"schema".reread_sql(relid oid, images text[]) returns text
language sql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$ select reread_sql(relid, images, '{}'::text[]) $$;

-- Of an earlier version of this schema. While it is there, a third argument without a type means this one.
drop function if exists :"schema".reread_sql(oid, text[], text);

-- A digest of numbers in their order. hashint8extended folds what it has so far into 32 bits, so two digests that differ
-- come together again with a chance of 2^-32 at each number that follows.
create or replace aggregate :"schema".digest(bigint) (
  sfunc = pg_catalog.hashint8extended, stype = bigint, initcond = '0', parallel = safe);

-- The SQL that says whether an UPDATE changed a key, row by row: the two
-- transition tables hold the old and the new image of one row at the same
-- place. So digests of all keys in their order differ where a single one does. That all four do not has a chance of
-- (n / 2^32)^4 in n rows, or of 2^-64 that one key's hash is another's. (Joining the tables row by row, or numbering the rows, costs
-- more.) NULL: cannot say.
-- concat, and not a cast: a type may have a cast to text of its owner's.
create or replace function :"schema".rekeyed_sql(relid oid) returns text
language plpgsql stable
set search_path = pg_catalog, :"schema", pg_temp
as $$
#variable_conflict use_variable
declare
  key constant text[] := key_of(relid); hash text := '0';
begin
  if key is null then
    return null;
  end if;
  for n in 1..array_length(key, 1) loop
    hash := format('hashtextextended(concat(i.%I) collate "C", %s)', key[n][1], hash);
  end loop;
  return format('select (select row(digest(k), digest(~ k), digest(k # 1), digest(k # 2)) from (select %1$s as k from old_rows i offset 0) i)'
                ' is distinct from (select row(digest(k), digest(~ k), digest(k # 1), digest(k # 2)) from (select %1$s as k from new_rows i offset 0) i)', hash);
end
$$;

-- The kind of a capture, as it stands in a mark.
create or replace function :"schema".kind_of(op text) returns text
language sql immutable parallel safe
return case op when 'INSERT' then 'I' when 'DELETE' then 'D' else '' end;

-- The mark of a table, the first in its client statement.
create or replace function :"schema".mark_of(relid oid, kind text) returns text
language sql stable
return pg_catalog.concat(pg_catalog.date_part('epoch', pg_catalog.statement_timestamp()), ',', relid, kind, ',');

-- A note in which the mark of this table, if there is one, says nothing of its kind.
create or replace function :"schema".any_kind(note text, relid oid) returns text
language sql stable parallel safe
return pg_catalog.replace(pg_catalog.replace(note, pg_catalog.concat(',', relid, 'I,'), pg_catalog.concat(',', relid, ',')),
                          pg_catalog.concat(',', relid, 'D,'), pg_catalog.concat(',', relid, ','));

-- Whether the table was captured before in this client statement, and not only in this kind; kind '' is marked by any.
create or replace function :"schema".marked_otherwise(note text, this text, relid oid, kind text) returns boolean
language sql stable parallel safe
return pg_catalog.starts_with(note, this)
       and (kind operator(pg_catalog.=) '' or pg_catalog.strpos(note, pg_catalog.concat(',', relid, kind, ',')) operator(pg_catalog.=) 0)
       and pg_catalog.strpos(:"schema".any_kind(note, relid), pg_catalog.concat(',', relid, ',')) operator(pg_catalog.>) 0;

-- The note with this capture's mark.
create or replace function :"schema".note_with(note text, this text, relid oid, kind text) returns text
language sql stable parallel safe
return case when not pg_catalog.starts_with(note, this) then pg_catalog.concat(this, relid, kind, ',')
            when pg_catalog.strpos(note, pg_catalog.concat(',', relid, kind, ',')) operator(pg_catalog.>) 0 then note
            when pg_catalog.strpos(:"schema".any_kind(note, relid), pg_catalog.concat(',', relid, ',')) operator(pg_catalog.>) 0
              then :"schema".any_kind(note, relid)
            else pg_catalog.concat(note, relid, kind, ',') end;

-- Statement capture: AFTER INSERT, UPDATE or DELETE, FOR EACH STATEMENT, with
-- transition tables old_rows and new_rows. Arguments: the registered name,
-- the key columns as they were called at install and, where the key is the table's first
-- column, how a document begins: {"id": (Whoever may not execute
-- this function can neither attach it nor choose its arguments.)
--
-- Why a mark. Two statements within one client statement can be captured in
-- another order than they happened: a user's trigger on the same table, a
-- function called in the query, a WITH that deletes and inserts, two foreign
-- keys that cascade into one table. Each capture leaves the mark (table,
-- statement_timestamp()) in the note; one that finds the mark of another kind does not trust its
-- transition tables. statement_timestamp() is the same throughout one client message.
--
-- Another kind: INSERTs among themselves may be captured in any order, and so may DELETEs. Two INSERTs of one
-- key need a DELETE between them, which this client statement captures too. Whichever of the kinds is captured last finds
-- the other's mark and reads what is there. An UPDATE finds any mark: of two, the older could be captured last. So a loop of
-- INSERTs costs no more than as many statements of their own.
create or replace function :"schema".capture() returns trigger
language plpgsql security definer
set search_path = pg_catalog, :"schema", pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set bytea_output = 'hex'
set extra_float_digits = 1 set lc_monetary = 'C' set jit = off
as $$
#variable_conflict use_variable
declare
  note text := current_setting(noted(), true);
  kind text; this text; mark text; lost boolean; marked boolean; doubt boolean; changed bigint; sql text; done text; doc json;
begin
  -- On the way of an ordinary statement each expression costs some thousand instructions, each
  -- function and operator in it a thousand, each node of a plan several thousand.
  if note = 'k' then -- the ordinary case, the transaction's first: kind and mark are NULL, and written where they are needed
  else
    kind := kind_of(tg_op);
    this := date_part('epoch', statement_timestamp()) || ',';
    if note <> '' then
      lost := note = '!';
      marked := lost or marked_otherwise(note, this, tg_relid, kind);
    else
      lost := wiped();
      marked := lost;
      note := 'k';
    end if;
    mark := note_with(note, this, tg_relid, kind);
  end if;
  -- The first row that is written finds the note as it was, takes the lead if there is none, and leaves
  -- the mark, if it is not there. (Not by AND: planned for one note, "and note = 'k'" may be false, and the planner then drops
  -- what stands beside it.) The name is never NULL, however this was attached.
  if tg_op = 'UPDATE' and marked is not true then
    -- The ordinary UPDATE, of one row whose key is the first column and stays: without planning
    -- anything. Where that column has another name by now, or the row is too large
    -- to be written, none of it is true, and the row is left to what follows.
    -- (row_to_json takes names from the aliases of columns: only the old row has one, by a name that
    -- no other column has: an alias that is one's name, too, is an error.)
    insert into outbox (table_name, op, lead, row)
    select coalesce(tg_argv[0], tg_relid::regclass::text), 'U', note = 'k', n.doc
    from (select row_to_json(n.*) as doc from new_rows n
          where not exists (select from new_rows offset 1) and pg_column_size(n.*) <= row_limit() offset 0) n
    where case when exists (select from old_rows o ("lockstep: first")
                            where starts_with(n.doc::text, concat(tg_argv[2], to_json(o."lockstep: first"), ',')))
               then set_config(noted(), coalesce(mark, mark_of(tg_relid, '')), true) is not null else false end;
    if found then
      return null;
    end if;
    insert into outbox (table_name, op, lead, row)
    select coalesce(tg_argv[0], tg_relid::regclass::text), 'U',
           case when mark = note then false when current_setting(noted(), true) is distinct from note then false
                when set_config(noted(), coalesce(mark, mark_of(tg_relid, '')), true) is null then false else note = 'k' end,
           row_to_json(n.*)
    from new_rows n
    where case when pg_column_size(n.*) > row_limit() then set_config('lockstep.big', '1', true) is null else true end
    limit 16;
    get diagnostics changed = row_count;
  elsif tg_op = 'INSERT' and marked is not true then
    insert into outbox (table_name, op, lead, row)
    select coalesce(tg_argv[0], tg_relid::regclass::text), 'I',
           case when mark = note then false when current_setting(noted(), true) is distinct from note then false
                when set_config(noted(), coalesce(mark, mark_of(tg_relid, 'I')), true) is null then false else note = 'k' end,
           row_to_json(n.*)
    from new_rows n
    where case when pg_column_size(n.*) > row_limit() then set_config('lockstep.big', '1', true) is null else true end
    limit 16;
    get diagnostics changed = row_count;
    if changed <> all ('{0,16}') and current_setting('lockstep.big', true) is distinct from '1' then
      return null;
    end if;
  elsif marked is not true then
    insert into outbox (table_name, op, lead, row)
    select coalesce(tg_argv[0], tg_relid::regclass::text), 'D',
           case when mark = note then false when current_setting(noted(), true) is distinct from note then false
                when set_config(noted(), coalesce(mark, mark_of(tg_relid, 'D')), true) is null then false else note = 'k' end,
           row_to_json(o.*)
    from old_rows o
    where case when pg_column_size(o.*) > row_limit() then set_config('lockstep.big', '1', true) is null else true end
    limit 16;
    get diagnostics changed = row_count;
    if changed <> all ('{0,16}') and current_setting('lockstep.big', true) is distinct from '1' then
      return null;
    end if;
  else
    doubt := true;
  end if;
  -- changed is NULL where nothing of the kind was tried.
  if changed is not null then
    -- The first rows of a statement were written each by itself. Of what comes after them many are packed into one event, whose
    -- document is a list: a row of the log and of its index, and its number, cost more than the document does. A list takes about as
    -- much as fits into a page without a detour (toast). Its order is that of the images: one statement with its cascades can have
    -- written a row twice.
    if changed = 16 then
      if tg_op = 'DELETE' then
        insert into outbox (table_name, op, lead, row)
        select coalesce(tg_argv[0], tg_relid::regclass::text), left(tg_op, 1), false, json_agg(d.doc)
        from (select s.doc, s.size / 7000 as pack
              from (select r.doc, sum(pg_column_size(r.doc)) over (rows unbounded preceding) as size
                    from (select row_to_json(o.*) as doc from old_rows o
                          where case when pg_column_size(o.*) > row_limit() then set_config('lockstep.big', '1', true) is null else true end
                          offset 16) r) s
              order by pack, s.size offset 0) d
        group by d.pack order by d.pack;
      else
        insert into outbox (table_name, op, lead, row)
        select coalesce(tg_argv[0], tg_relid::regclass::text), left(tg_op, 1), false, json_agg(d.doc)
        from (select s.doc, s.size / 7000 as pack
              from (select r.doc, sum(pg_column_size(r.doc)) over (rows unbounded preceding) as size
                    from (select row_to_json(n.*) as doc from new_rows n
                          where case when pg_column_size(n.*) > row_limit() then set_config('lockstep.big', '1', true) is null else true end
                          offset 16) r) s
              order by pack, s.size offset 0) d
        group by d.pack order by d.pack;
      end if;
    end if;
    if current_setting('lockstep.big', true) = '1' then
      -- A row too large to be written whole was left out above: by its key, below.
      done := set_config('lockstep.big', '', true);
      doubt := true;
    elsif changed = 0 or tg_op <> 'UPDATE' then
      return null;
    else
      -- Where the key is the first column, and still has its name, no SQL has to be made and planned.
      if tg_argv[2] <> '' and (select starts_with(row_to_json(n.*)::text, tg_argv[2]) from new_rows n limit 1) then
        doubt := (select row(digest(i.k), digest(~ i.k), digest(i.k # 1), digest(i.k # 2)) from (select hashtextextended(concat(o."lockstep: first") collate "C", 0) as k from old_rows o ("lockstep: first") offset 0) i)
                 is distinct from (select row(digest(i.k), digest(~ i.k), digest(i.k # 1), digest(i.k # 2)) from (select hashtextextended(concat(n."lockstep: first") collate "C", 0) as k from new_rows n ("lockstep: first") offset 0) i);
      else
        sql := rekeyed_sql(tg_relid);
        if sql is null then
          doubt := true;
        else
          execute sql into doubt;
        end if;
      end if;
    end if;
  end if;
  -- What was written above stays: what is written below comes after it.
  if doubt and changed is null then
    case tg_op
    when 'DELETE' then select count(*) into changed from (select from old_rows limit 2) o;
    else select count(*) into changed from (select from new_rows limit 2) n;
    end case;
    if changed = 0 then
      return null;
    end if;
    -- One row that is there, under the key that it had: as a loop writes it.
    if changed = 1 and tg_op = 'UPDATE' then
      sql := point_sql(tg_relid, '{old_rows,new_rows}');
      if sql is not null then
        execute sql into doc;
      end if;
    end if;
  end if;
  if doc is not null then
    insert into outbox (table_name, op, lead, row) values (coalesce(tg_argv[0], name_of(tg_relid)), 'U', leads(), doc);
  elsif doubt then
    sql := reread_sql(tg_relid, case tg_op when 'INSERT' then '{new_rows}'::text[]
                                           when 'DELETE' then '{old_rows}' else '{old_rows,new_rows}' end);
    if sql is not null then
      execute sql using coalesce(tg_argv[0], name_of(tg_relid));
    else
      perform write_reload(tg_relid);
    end if;
  end if;
  if lost then
    perform note_lost();
  elsif marked is not true or mark <> note then
    done := set_config(noted(), coalesce(mark, mark_of(tg_relid, kind_of(tg_op))), true);
  end if;
  return null;
end
$$;

-- R for a whole table.
create or replace function :"schema".write_reload(relid oid) returns void
language plpgsql
set search_path = pg_catalog, :"schema", pg_temp
as $$
#variable_conflict use_variable
begin
  insert into outbox (table_name, op, lead) values (name_of(relid), 'R', leads());
end
$$;

-- Row capture: AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, for partitioned
-- tables (Postgres clones it to every partition) and for tables that a
-- subscription feeds (apply workers fire no statement triggers).
-- The same rule and the same mark, by the root of the partitions; but an UPDATE, which may have changed the key, is
-- always read back.
create or replace function :"schema".capture_row() returns trigger
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
  sql text; done text; r record; doc json;
begin
  if tg_op = 'DELETE' then r := old; else r := new; end if;
  if tg_op <> 'UPDATE' and not marked and pg_column_size(r) <= row_limit() then
    insert into outbox (table_name, op, lead, row) values (table_name, left(tg_op, 1), note in ('', 'k'), row_to_json(r));
    done := set_config(noted(), next_note, true);
    return null;
  end if;
  -- An UPDATE may have changed the key: both images give keys to look at.
  if tg_op = 'UPDATE' then
    sql := point_sql(root, '{$2,$3}');
    if sql is not null then
      execute sql into doc using table_name, old, new;
    end if;
  end if;
  if doc is not null then
    insert into outbox (table_name, op, lead, row) values (table_name, 'U', leads(), doc);
  else
    sql := reread_sql(root, case tg_op when 'INSERT' then '{$3}'::text[] when 'DELETE' then '{$2}' else '{$2,$3}' end);
    if sql is null then
      perform write_reload(root);
    else
      execute sql using table_name, old, new;
    end if;
  end if;
  if lost then
    perform note_lost();
  else
    done := set_config(noted(), next_note, true);
  end if;
  return null;
end
$$;

-- TRUNCATE capture, FOR EACH STATEMENT. Truncate triggers are not cloned to
-- partitions: each partition has one of its own, which says "read the whole
-- table again".
create or replace function :"schema".capture_truncate() returns trigger
language plpgsql security definer
set search_path = pg_catalog, :"schema", pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = 'postgres' set bytea_output = 'hex'
set extra_float_digits = 1 set lc_monetary = 'C' set jit = off
as $$
#variable_conflict use_variable
declare
  root constant oid := coalesce(pg_partition_root(tg_relid)::oid, tg_relid);
  note constant text := coalesce(current_setting(noted(), true), '');
  this constant text := date_part('epoch', statement_timestamp()) || ',';
  lost constant boolean := note = '!' or case when note = '' then wiped() else false end;
  marked constant boolean := lost or marked_otherwise(note, this, root, kind_of(tg_op));
  next_note constant text := note_with(note, this, root, kind_of(tg_op));
  done text;
begin
  -- A table that was written before in this statement may hold rows again
  -- by now; so may one that a later trigger fills, which will find the mark.
  -- A partition that was detached has this trigger still, with the name of its former
  -- root, which nobody has emptied: only what is in the register may say so.
  if root <> tg_relid or marked or not exists (select from tables t where t.relid = root) then
    perform write_reload(root);
  else
    insert into outbox (table_name, op, lead) values (coalesce(tg_argv[0], name_of(root)), 'T', note in ('', 'k'));
  end if;
  if lost then
    perform note_lost();
  else
    done := set_config(noted(), next_note, true);
  end if;
  return null;
end
$$;
