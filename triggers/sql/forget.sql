-- A table that is captured no more. Its name here is the one that vacate.sql gave it.
delete from :"schema".tables where relid = :'relation'::pg_catalog.regclass;
