-- roles appsql_php
create table a (id serial primary key, v text);
grant insert, select on a to appsql_php;
grant usage on sequence a_id_seq to appsql_php;
-- capture
-- session p as appsql_php
insert into a (v) values ('x') returning id;
select currval('a_id_seq'), currval(pg_get_serial_sequence('a', 'id'));
select nextval('a_id_seq'), lastval();
