-- Statement capture of one table. What the function is told besides name and key is its own: how a document begins
-- (capture), or which columns are left out (capture_without).
create or replace trigger :"insert_trigger" after insert on :"table_schema".:"table_name"
  referencing new table as new_rows for each statement execute function :"schema".:"capture"(:'relation', :'keys', :'told');
create or replace trigger :"update_trigger" after update on :"table_schema".:"table_name"
  referencing old table as old_rows new table as new_rows for each statement execute function :"schema".:"capture"(:'relation', :'keys', :'told');
create or replace trigger :"delete_trigger" after delete on :"table_schema".:"table_name"
  referencing old table as old_rows for each statement execute function :"schema".:"capture"(:'relation', :'keys', :'told');
create or replace trigger :"truncate_trigger" after truncate on :"table_schema".:"table_name"
  for each statement execute function :"schema".capture_truncate(:'relation');
-- ALWAYS: also where session_replication_role is replica.
alter table :"table_schema".:"table_name" enable always trigger :"insert_trigger";
alter table :"table_schema".:"table_name" enable always trigger :"update_trigger";
alter table :"table_schema".:"table_name" enable always trigger :"delete_trigger";
alter table :"table_schema".:"table_name" enable always trigger :"truncate_trigger";
