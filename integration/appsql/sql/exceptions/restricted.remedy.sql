-- No deferred trigger may be queued by what REFRESH MATERIALIZED VIEW calls, and the bell is one.
create table a (id int primary key);
create table seen (id int primary key);
create function writes(int) returns int language plpgsql as $$ begin insert into public.seen values ($1) on conflict (id) do update set id = seen.id; return $1; end $$;
create materialized view mv as select writes(id) from a;
insert into a values (1);
-- capture without the bell
insert into seen values (2);
refresh materialized view mv;
table seen;
