-- The head of a fetch. It is the first statement of its transaction, so the
-- snapshot is taken before the sequence, which knows no snapshots, is read:
-- last_value is at least what had been handed out when the snapshot was taken.
-- The schema may have been upgraded since the connection was made, and what is
-- captured from then on is for nodes of min_node and later.
select pg_catalog.pg_current_snapshot()::text, case when s.is_called then s.last_value else 0 end,
       h.xid::text::bigint, m.history::text, pg_catalog.current_setting('transaction_isolation'), m.version, m.min_node,
       pg_catalog.clock_timestamp(), m.bell,
       case m.bell when 'wal' then pg_catalog.current_setting('synchronous_standby_names') else '' end
from :"schema".outbox_seq_seq s, :"schema".horizon h, :"schema".meta m
