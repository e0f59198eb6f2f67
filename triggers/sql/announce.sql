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
--
-- The lock and the channel carry the oid of the outbox. All is one expression, which
-- plpgsql evaluates without a query.
--
-- It needs no rights but those that PUBLIC has on these functions, and is
-- looked up by nobody's search_path.
create or replace function :"schema".announce() returns trigger
language plpgsql
as $$
begin
  -- 1819239275 is 'lock' in ASCII: the upper half of the advisory lock's key.
  if pg_catalog.pg_try_advisory_xact_lock((1819239275::bigint operator(pg_catalog.<<) 32) operator(pg_catalog.|) tg_relid::bigint)
     and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
     and pg_catalog.pg_notify('lockstep_' operator(pg_catalog.||) tg_relid::text, new.seq::text) is null then
  end if;
  return null;
end
$$;
