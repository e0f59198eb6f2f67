-- The bell. One deferred constraint trigger on the outbox, for the first event
-- of a transaction, so it runs once and at commit.
--
-- NOTIFY takes a lock on the whole cluster's queue and holds it until the
-- commit is flushed: were every commit to notify, commits would queue one behind
-- another. So a transaction notifies only if no other committing transaction
-- is about to; a node that has been rung looks again a little later for
-- whoever passed by.
--
-- Above half of a full queue the bell is silent: a full one makes commits fail.
-- Nodes then poll.
create or replace function :"schema".announce() returns trigger
language plpgsql security definer
set search_path = pg_catalog, :"schema", pg_temp
as $$
declare
  -- 1819239275 is 'lock' in ASCII: the upper half of the advisory lock's key.
  ours constant bigint := (1819239275::bigint << 32) | quote_ident(tg_table_schema)::regnamespace::oid::bigint;
begin
  if pg_try_advisory_xact_lock(ours) and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('lockstep_' || quote_ident(tg_table_schema)::regnamespace::oid, new.seq::text);
  end if;
  return null;
end
$$;
