-- roles appsql_php
-- lastval() is the last number that the session drew, whichever the sequence: after a captured write, the outbox's.
create table a (id serial primary key, v text);
grant insert on a to appsql_php;
grant usage on sequence a_id_seq to appsql_php;
-- capture
-- session p as appsql_php
insert into a (v) values ('x');
select lastval();
