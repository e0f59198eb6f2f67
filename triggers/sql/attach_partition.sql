-- A partition: TRUNCATE triggers are not cloned, so each has its own.
create or replace trigger :"truncate_trigger" after truncate on :"table_schema".:"table_name"
  for each statement execute function :"schema".capture_truncate(:'relation');
alter table :"table_schema".:"table_name" enable always trigger :"truncate_trigger";
