-- The functions' owner reads the table, to write what is there now.
grant usage on schema :"table_schema" to :"owner";
grant select on :"table_schema".:"table_name" to :"owner";
