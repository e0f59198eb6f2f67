-- Row capture of one table; Postgres clones the trigger to every partition, also to those to come.
create or replace trigger :"row_trigger" after insert or update or delete on :"table_schema".:"table_name"
  for each row execute function :"schema".capture_row(:'relation');
create or replace trigger :"truncate_trigger" after truncate on :"table_schema".:"table_name"
  for each statement execute function :"schema".capture_truncate(:'relation');
-- ALWAYS: also in apply workers and where session_replication_role is replica.
alter table :"table_schema".:"table_name" enable always trigger :"row_trigger";
alter table :"table_schema".:"table_name" enable always trigger :"truncate_trigger";
