-- What replication brings stays out of our own tables.
--
-- A publication FOR ALL TABLES carries them too. At a subscriber that has this
-- schema of its own the publisher's rows are not only useless: its transaction ids mean
-- something else here, its trimming would delete rows of ours, its meta would
-- replace our history, and where keys are the same the apply worker would stop for
-- good, and with it the replication of every other table.
--
-- The trigger is ENABLE REPLICA: it runs where session_replication_role is
-- replica, as in apply workers, and costs other writers nothing. What a capture
-- writes there itself comes out of a trigger: its depth is above zero.
--
-- CREATE TRIGGER would stop the outbox's writers: not where all is as it should be.
create or replace function :"schema".foreign_row() returns trigger
language plpgsql
as $$ begin return null; end $$;

select set_config('lockstep.install_schema', :'schema', true);
do $do$
declare
  ours constant text := current_setting('lockstep.install_schema');
  t text;
begin
  foreach t in array '{outbox,tables,left_out,nodes,horizon,meta,relays}'::text[] loop
    continue when exists (select from pg_catalog.pg_trigger g
                          where g.tgrelid = format('%I.%I', ours, t)::regclass and g.tgname = 'lockstep_foreign' and g.tgenabled = 'R');
    execute format('create or replace trigger lockstep_foreign before insert or update or delete on %1$I.%2$I '
                   'for each row when (pg_catalog.pg_trigger_depth() operator(pg_catalog.=) 0) execute function %1$I.foreign_row()', ours, t);
    execute format('alter table %I.%I enable replica trigger lockstep_foreign', ours, t);
  end loop;
end
$do$;
