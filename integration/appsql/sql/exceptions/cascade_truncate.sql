-- What a foreign key has just cascaded into waits for its statement triggers: until the statement ends, the table cannot
-- be altered or emptied by a trigger.
create table p (id int primary key);
create table c (id int primary key, p_id int references p on delete cascade);
create function empty_c() returns trigger language plpgsql as $$ begin truncate c; return null; end $$;
create trigger zzz after delete on p for each row execute function empty_c();
insert into p values (1), (2);
insert into c values (1, 1), (2, 2);
-- capture
insert into p values (3);
delete from p where id = 1;
table c;
