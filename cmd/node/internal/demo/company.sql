create schema :"company";
create table :"company".departments (
  id int primary key,
  name text not null,
  manager int -- an employee
);
create table :"company".employees (
  id int primary key,
  name text not null,
  department int not null references :"company".departments,
  salary bigint not null,
  stamp bigint not null default 0 -- tells a write apart, to time it
);
create index on :"company".employees (department);
insert into :"company".departments
select i, (array['Sales','Support','Research','Finance','Legal','Design','Logistics','Press'])[i], 1 + i * 10 from generate_series(1, 8) i;
-- The Archive is left alone by the traffic, so that what is shown of it can be checked.
insert into :"company".departments values (9, 'Archive', 401);
insert into :"company".employees
select i, 'Employee ' || i, 1 + i % 8, 50000 + i * 10, 0 from generate_series(1, 400) i;
insert into :"company".employees
select i, 'Archivist ' || i, 9, 50000, 0 from generate_series(401, 420) i;
