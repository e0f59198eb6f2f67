-- LISTEN and NOTIFY of the application's own, and its advisory locks.
create table a (id int primary key, v text);
create function tell() returns trigger language plpgsql as $$ begin perform pg_notify('rows', new.id::text); return null; end $$;
create trigger tell after insert or update on a for each row execute function tell();
create rule told as on delete to a do also notify gone;
-- capture
-- session l
listen rows;
listen gone;
listen other;
-- session a
insert into a values (1, 'x');
-- session l
-- hears
-- session a
begin;
insert into a values (2, 'x'), (3, 'y');
update a set v = 'z' where id = 2;
notify other, 'by hand';
savepoint s;
insert into a values (4, 'never');
notify other, 'never';
rollback to s;
commit;
-- session l
-- hears
-- hears
-- hears
-- session a
begin;
insert into a values (5, 'never');
rollback;
delete from a where id = 3;
-- session l
-- hears
insert into a values (6, 'own');
-- hears
begin;
insert into a values (7, 'own, in a transaction');
notify other, 'own';
commit;
-- hears
-- hears
unlisten rows;
select pg_listening_channels();
-- session a
insert into a values (8, 'nobody listens');
notify other, 'last';
-- session l
-- hears
unlisten *;
select count(*) from pg_listening_channels();
-- session a
begin;
insert into a values (9, 'x');
select pg_advisory_xact_lock(7);
select pg_try_advisory_lock(8);
-- session l
select pg_try_advisory_lock(7), pg_try_advisory_lock(8);
select pg_advisory_lock(7);
-- session a
commit;
select pg_advisory_unlock_all();
-- session l
select pg_advisory_unlock(7), pg_advisory_unlock(8);
begin\; insert into a values (10, 'x')\; select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()\; commit;
select pg_notification_queue_usage() < 0.5;
