-- What a node needs, besides SELECT on the tables that it keeps.
--
-- For the WAL bell (install --bell wal) its role needs REPLICATION besides, which is more
-- than it sounds: such a role can read everything that the cluster writes. Not granted here:
--   alter role ... replication;
grant usage on schema :"schema" to :"role";
grant select on :"schema".outbox, :"schema".tables, :"schema".horizon, :"schema".meta, :"schema".nodes to :"role";
grant select on sequence :"schema".outbox_seq_seq to :"role";
grant select on :"schema".relays to :"role"; -- the key of what a relay publishes
grant insert, update on :"schema".nodes to :"role";
