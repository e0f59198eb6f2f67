-- The schema, its tables and the NOLOGIN role that owns the functions.
--
-- Rendered and run by Install. For review, or to be run by hand, as one:
--   lockstep install --table public.employees --print-sql > review.sql
--   psql -v ON_ERROR_STOP=1 -f review.sql
-- It may be run again at any time: what is there stays as it is.

select set_config('lockstep.install_schema', :'schema', true),
       set_config('lockstep.install_owner', :'owner', true);

do $do$
declare
  owner constant text := current_setting('lockstep.install_owner');
begin
  if not exists (select from pg_catalog.pg_roles where rolname = owner) then
    begin
      execute format('create role %I nologin noinherit', owner);
    exception when duplicate_object or unique_violation then null; -- an install in another database has, meanwhile
    end;
  end if;
  -- Who is no superuser must be a member of the role to give it the functions, and to replace
  -- them later; whoever made a role is none, until PostgreSQL 15 at all and since 16 by halves.
  if not (pg_catalog.pg_has_role(owner, 'usage') and pg_catalog.pg_has_role(owner,
          case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)) then
    begin
      execute format('grant %I to current_user', owner);
    exception when unique_violation then null; -- the same
    end;
  end if;
  if not exists (select from pg_catalog.pg_namespace where nspname = current_setting('lockstep.install_schema')) then
    execute format('create schema %I', current_setting('lockstep.install_schema'));
  end if;
end
$do$;

-- The log. Its order is seq, its identity is (xid, seq); it is read by ranges
-- of xid. Never truncated and never rewritten: both would hide rows from
-- snapshots that should see them.
--
-- Every table here has a primary key: under a publication FOR ALL TABLES an
-- UPDATE or DELETE of a table without one fails.
create table if not exists :"schema".outbox (
  seq        bigint generated always as identity (cache 1), -- cache 1: numbers are drawn in the order of the writes
  xid        xid8 not null default pg_catalog.pg_current_xact_id(), -- the top-level transaction
  table_name text not null,
  op         "char" not null,
  lead       boolean not null, -- the first event of its transaction rings the bell
  row        json,
  at         timestamptz not null default pg_catalog.clock_timestamp(),
  primary key (xid, seq)
) with (
  -- Rows come at the end and go, by trimming, at the beginning. Vacuum by
  -- the number of dead rows and not by a share of the table, or a large
  -- outbox keeps dead index pages at the end where every fetch reads.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 20000,
  -- Insert-only stretches are frozen early, in small helpings.
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 100000,
  -- The fetch is planned from the statistics of xid: keep their end fresh.
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 50000,
  -- Documents are short lived: compressing them is work for nothing.
  toast_tuple_target = 8160
);

-- What is captured. Partitions are found through their root.
create table if not exists :"schema".tables (
  relid       oid primary key,
  name        text not null unique, -- as SQL writes it, quoted where it must be
  key_columns text[] not null,      -- as they were called at install; capture looks them up when it must be sure
  mode        text not null check (mode in ('statement', 'row')),
  installed   timestamptz not null default pg_catalog.clock_timestamp(),
  excluded    text[] not null default '{}' -- columns that are left out, as {{name,number},...}: they are never copied; number -1: it was dropped, 0: only its name is known
);

-- What is left out of a table of this name, also while there is none: until install is told otherwise.
create table if not exists :"schema".left_out (
  name    text primary key, -- as SQL writes it, quoted where it must be
  columns text[] not null
);

-- Who follows. A node writes its own row every few seconds; of one on a stream the relay writes it, every ten minutes.
create table if not exists :"schema".nodes (
  name     text primary key,
  position text not null,
  state    text not null,
  host     text not null default '',
  version  integer not null default 0,
  beat     timestamptz not null default pg_catalog.clock_timestamp(),
  stale_seconds double precision, -- at the beat: since the last completed fetch, or beat that found nothing to fetch, began; NULL: it does not say
  bell     text not null default ''  -- that it uses: notify, wal, poll or stream
);

-- Events of transactions below this id may have been trimmed.
create table if not exists :"schema".horizon (
  one   boolean primary key default true check (one),
  xid   xid8 not null,
  moved timestamptz not null default pg_catalog.clock_timestamp()
);

create table if not exists :"schema".meta (
  one               boolean primary key default true check (one),
  version           integer not null, -- of this schema
  min_node          integer not null, -- the oldest node that can read it
  history           uuid not null,    -- names this run of the outbox
  system_identifier bigint not null,  -- of the cluster in which it runs
  bell              text not null check (bell in ('notify', 'wal', 'off'))
);

-- The relay that leads (lockstep relay): the number by which its connection is known, as an
-- advisory lock that it holds, and the key of the messages that it publishes. Nobody but
-- nodes and relays may read it.
create table if not exists :"schema".relays (
  run  bigint primary key,
  key  bytea not null,
  host text not null default '',
  at   timestamptz not null default pg_catalog.clock_timestamp()
);

-- What earlier versions lack. ALTER TABLE stops writers: not where all is as it should be.
select set_config('lockstep.install_schema', :'schema', true);
do $do$
declare
  nodes constant regclass := format('%I.nodes', current_setting('lockstep.install_schema'))::regclass;
  tables constant regclass := format('%I.tables', current_setting('lockstep.install_schema'))::regclass;
  meta constant regclass := format('%I.meta', current_setting('lockstep.install_schema'))::regclass;
begin
  if not exists (select from pg_catalog.pg_attribute where attrelid = nodes and attname = 'bell') then
    execute format('alter table %s add column if not exists stale_seconds double precision, add column if not exists bell text not null default %L', nodes, '');
  end if;
  if not exists (select from pg_catalog.pg_attribute where attrelid = tables and attname = 'excluded') then
    execute format('alter table %s add column if not exists excluded text[] not null default %L', tables, '{}');
  end if;
  if not exists (select from pg_catalog.pg_constraint where conrelid = meta and contype = 'c'
                 and pg_catalog.pg_get_constraintdef(oid) like '%''wal''%') then
    execute format('alter table %s drop constraint if exists meta_bell_check, add constraint meta_bell_check check (bell in (''notify'', ''wal'', ''off''))', meta);
  end if;
end
$do$;

insert into :"schema".horizon (xid) values ('0') on conflict do nothing;
insert into :"schema".meta (version, min_node, history, system_identifier, bell)
select :'version'::integer,
       :'min_node'::integer, pg_catalog.gen_random_uuid(), c.system_identifier, 'off'
from pg_catalog.pg_control_system() c
on conflict (one) do update set version = excluded.version, min_node = excluded.min_node;
