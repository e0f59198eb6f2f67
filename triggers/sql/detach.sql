-- Takes capture off one table or partition, and the owner's right to read it.
drop trigger if exists :"insert_trigger" on :"table_schema".:"table_name";
drop trigger if exists :"update_trigger" on :"table_schema".:"table_name";
drop trigger if exists :"delete_trigger" on :"table_schema".:"table_name";
drop trigger if exists :"row_trigger" on :"table_schema".:"table_name";
drop trigger if exists :"truncate_trigger" on :"table_schema".:"table_name";
revoke select on :"table_schema".:"table_name" from :"owner";
