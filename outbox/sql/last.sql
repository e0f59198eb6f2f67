-- The highest sequence number handed out so far.
select case when s.is_called then s.last_value else 0 end from :"schema".outbox_seq_seq s
