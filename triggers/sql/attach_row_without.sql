-- Row capture of one table of which some columns are left out; attach_partition.sql adds what TRUNCATE needs.
create or replace trigger :"row_trigger" after insert or update or delete on :"table_schema".:"table_name"
  for each row execute function :"schema".capture_row_without(:'relation', :'excluded');
alter table :"table_schema".:"table_name" enable always trigger :"row_trigger";
