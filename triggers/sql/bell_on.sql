-- Ring at commit. NOTIFY forbids PREPARE TRANSACTION: see bell_off.sql.
drop publication if exists :"publication";
drop trigger if exists lockstep_announce on :"schema".outbox;
create constraint trigger lockstep_announce after insert on :"schema".outbox
  deferrable initially deferred for each row when (new.lead)
  execute function :"schema".announce();
alter table :"schema".outbox enable always trigger lockstep_announce;
update :"schema".meta set bell = 'notify';
