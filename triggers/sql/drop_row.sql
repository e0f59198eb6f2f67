-- Row capture goes: statement capture has taken its place.
drop trigger if exists :"row_trigger" on :"table_schema".:"table_name";
