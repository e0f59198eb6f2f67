-- Triggers called lockstep_insert, lockstep_update, lockstep_delete, lockstep_truncate and lockstep_row are install's.
create table a (id int primary key);
create function f() returns trigger language plpgsql as $$ begin return new; end $$;
-- capture
insert into a values (1);
create trigger lockstep_insert before insert on a for each row execute function f();
