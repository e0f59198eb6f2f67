-- What a relay needs. It reads every captured row of the outbox.
grant usage on schema :"schema" to :"role";
grant select on :"schema".outbox, :"schema".tables, :"schema".horizon, :"schema".meta to :"role";
grant select on sequence :"schema".outbox_seq_seq to :"role";
grant select, insert, delete on :"schema".relays to :"role";
-- Rows of the nodes on its stream; without this they write them themselves.
grant select, insert, update on :"schema".nodes to :"role";
