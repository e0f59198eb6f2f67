-- Nothing rings: nodes poll, commits cost only the outbox insert, and PREPARE
-- TRANSACTION works on transactions that wrote tracked tables.
drop trigger if exists lockstep_announce on :"schema".outbox;
drop publication if exists :"publication";
update :"schema".meta set bell = 'off';
