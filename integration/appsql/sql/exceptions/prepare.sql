-- NOTIFY forbids PREPARE TRANSACTION, and the bell notifies.
create table a (id int primary key);
-- capture
begin;
insert into a values (1);
prepare transaction 'appsql';
rollback prepared 'appsql';
insert into a values (2);
begin;
delete from a where false;
prepare transaction 'appsql nothing written';
rollback prepared 'appsql nothing written';
