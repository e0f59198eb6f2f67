-- roles appsql_dba
-- The catalogue shows what install has put there.
create table a (id int primary key);
create function gone() returns event_trigger language plpgsql as $$
declare r record;
begin
  for r in select * from pg_event_trigger_dropped_objects() where object_type in ('table', 'trigger') order by 1, object_identity loop raise notice '% %', r.object_type, r.object_identity; end loop;
end $$;
create event trigger gone on sql_drop execute function gone();
grant create on schema public to appsql_dba;
alter table a owner to appsql_dba;
-- capture
select trigger_name, event_manipulation from information_schema.triggers where event_object_table = 'a' order by 1;
select grantee, privilege_type from information_schema.table_privileges where table_name = 'a' and grantee <> 'appsql_dba' order by 1;
select relhastriggers from pg_class where oid = 'a'::regclass;
begin;
insert into a values (1);
select coalesce(c.relname, l.locktype), l.mode from pg_locks l left join pg_class c on c.oid = l.relation where l.pid = pg_backend_pid() and c.relname !~ '^pg_' and l.locktype not in ('virtualxid', 'transactionid') order by 1;
commit;
select relname from pg_stat_user_tables order by 1;
drop table a;
