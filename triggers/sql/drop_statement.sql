-- Statement capture goes: row capture has taken its place.
drop trigger if exists :"insert_trigger" on :"table_schema".:"table_name";
drop trigger if exists :"update_trigger" on :"table_schema".:"table_name";
drop trigger if exists :"delete_trigger" on :"table_schema".:"table_name";
