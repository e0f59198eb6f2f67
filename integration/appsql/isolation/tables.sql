-- The tables of every specification here; each empties and fills those that it uses.
create table accounts (id int primary key, balance int not null);
create table doctors (name text primary key, on_call boolean not null);
create table parents (id int primary key, v int);
create table children (id int primary key, parent int references parents on delete cascade);
create table jobs (id int primary key, state text not null);
create table parts (id int, region int, v int, primary key (id, region)) partition by list (region);
create table parts_1 partition of parts for values in (1);
create table parts_2 partition of parts for values in (2);
create table log (n int generated always as identity primary key, what text);
create function logs() returns trigger language plpgsql as $$ begin insert into log (what) values (concat_ws(' ', tg_op, new.id)); return null; end $$;
create trigger logs after update on accounts for each row execute function logs();
