create table p (id int primary key);
create table c (id int primary key, p_id int references p on delete cascade);
create function empty_c() returns trigger language plpgsql as $$ begin truncate c; return null; end $$;
create function delete_c() returns trigger language plpgsql as $$ begin delete from c; return null; end $$;
create constraint trigger zzz after delete on p deferrable initially deferred for each row when (old.id = 1) execute function empty_c();
create trigger zzz_now after delete on p for each row when (old.id <> 1) execute function delete_c();
insert into p values (1), (2), (3);
insert into c values (1, 1), (2, 2), (3, 3);
-- capture
insert into p values (4);
delete from p where id = 1;
table c;
insert into c values (2, 2), (3, 3);
delete from p where id = 2;
table c;
