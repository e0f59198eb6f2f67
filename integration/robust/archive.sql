-- Keeps what trimming and a new history delete from the outbox.
create table archive (seq bigint not null, part int not null, xid bigint not null, table_name text not null, op text not null, id int, state text, gone bigint not null);

-- What a document says; NULL for one that was made by hand and says nothing.
create function id_of(doc json) returns int language plpgsql set search_path = public, pg_catalog as $$
declare
  id int;
begin
  id := doc ->> 'id'; -- a RETURN would convert it outside of the block
  return id;
exception when others then
  return null;
end $$;
create function state_of(doc json) returns text language plpgsql set search_path = public, pg_catalog as $$
begin
  return concat_ws(',', doc ->> 'region', doc ->> 'v', doc ->> 'stamp', length(doc ->> 'body') || ':' || md5(doc ->> 'body'));
exception when others then
  return null;
end $$;

-- The documents of an event: those of a list, or the one.
create function docs_of(told json) returns setof json language plpgsql set search_path = public, pg_catalog as $$
begin
  if left(told::text, 1) = '[' then
    return query select * from json_array_elements(told);
  else
    return next told;
  end if;
end $$;

create function archive() returns trigger language plpgsql security definer set search_path = public, pg_catalog as $$
begin
  insert into archive
  select seq, part, xid::text::bigint, table_name, op::text, id_of(doc), case when op in ('I', 'U') then state_of(doc) end, pg_current_xact_id()::text::bigint
  from old_rows o, docs_of(o.row) with ordinality d (doc, part);
  return null;
end $$;
create trigger archive after delete on lockstep.outbox referencing old table as old_rows for each statement execute function archive();

create view log as
select seq, part, xid, table_name, op, id, state, gone from archive
union all
select seq, part, xid::text::bigint, table_name, op::text, id_of(doc), case when op in ('I', 'U') then state_of(doc) end, 0 from lockstep.outbox o, docs_of(o.row) with ordinality d (doc, part);
