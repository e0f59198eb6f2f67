-- Who may do what. The functions belong to a NOLOGIN role that may insert
-- into the outbox, see the transaction ids in it, and read the register and tracked tables, nothing more: row_to_json runs a
-- column type's own cast to json, and must not run it as a superuser.
-- EXECUTE is revoked from PUBLIC, or anyone could attach capture to a table of
-- their own and forge events.

grant usage, create on schema :"schema" to :"owner"; -- create: to be given the functions; taken back below
alter function :"schema".row_limit() owner to :"owner";
alter function :"schema".noted() owner to :"owner";
alter function :"schema".name_of(oid) owner to :"owner";
alter function :"schema".wiped() owner to :"owner";
alter function :"schema".note_lost() owner to :"owner";
alter function :"schema".lead_sql() owner to :"owner";
alter function :"schema".leads() owner to :"owner";
alter function :"schema".key_of(oid) owner to :"owner";
alter function :"schema".readable(oid) owner to :"owner";
alter function :"schema".point_sql(oid, text[]) owner to :"owner";
alter function :"schema".reread_sql(oid, text[], text[]) owner to :"owner";
alter function :"schema".reread_sql(oid, text[]) owner to :"owner";
alter aggregate :"schema".digest(bigint) owner to :"owner";
alter function :"schema".rekeyed_sql(oid) owner to :"owner";
alter function :"schema".write_reload(oid) owner to :"owner";
alter function :"schema".kind_of(text) owner to :"owner";
alter function :"schema".mark_of(oid, text) owner to :"owner";
alter function :"schema".any_kind(text, oid) owner to :"owner";
alter function :"schema".marked_otherwise(text, text, oid, text) owner to :"owner";
alter function :"schema".note_with(text, text, oid, text) owner to :"owner";
alter function :"schema".capture() owner to :"owner";
alter function :"schema".capture_row() owner to :"owner";
alter function :"schema".kept_columns(oid, text[], text) owner to :"owner";
alter function :"schema".capture_without() owner to :"owner";
alter function :"schema".capture_row_without() owner to :"owner";
alter function :"schema".capture_truncate() owner to :"owner";
alter function :"schema".announce() owner to :"owner";
alter function :"schema".foreign_row() owner to :"owner";
revoke create on schema :"schema" from :"owner";

revoke all on all functions in schema :"schema" from public;
grant execute on all functions in schema :"schema" to :"owner";
revoke all on all tables in schema :"schema" from public;
grant insert, select (xid) on :"schema".outbox to :"owner"; -- xid: whether a transaction has events already
grant select on :"schema".tables to :"owner";
