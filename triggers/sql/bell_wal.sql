-- Nodes read the log (package outbox/wal), through temporary slots of their own.
-- Nothing rings at commit, so commits cost only the outbox insert, and PREPARE
-- TRANSACTION works. It needs wal_level = logical.
--
-- A node only wants to know that something was committed. So, from version 15 on,
-- one event of a transaction is published, its first, and of that one the number.
-- Version 14 publishes whole tables only: there the log's reader gets every event.
select set_config('lockstep.install_schema', :'schema', true),
       set_config('lockstep.install_publication', :'publication', true);

drop trigger if exists lockstep_announce on :"schema".outbox;
drop publication if exists :"publication";
do $do$
begin
  execute format(case when current_setting('server_version_num')::integer >= 150000
                      then 'create publication %I for table only %I.outbox (seq) where (lead) with (publish = ''insert'')'
                      else 'create publication %I for table only %I.outbox with (publish = ''insert'')' end,
                 current_setting('lockstep.install_publication'), current_setting('lockstep.install_schema'));
end
$do$;
update :"schema".meta set bell = 'wal';
