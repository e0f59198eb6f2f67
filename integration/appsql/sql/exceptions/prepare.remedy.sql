create table a (id int primary key);
-- capture without the bell
begin;
insert into a values (1);
prepare transaction 'appsql';
commit prepared 'appsql';
table a;
