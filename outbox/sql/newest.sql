-- The newest transactions in the outbox, each by its last event: what a node
-- that has just loaded can hold on to; and whether there may be others.
with newest as materialized (select o.xid, o.seq, o.at from :"schema".outbox o order by o.xid desc, o.seq desc limit $1)
select e.xid, e.seq, e.at, (select count(*) >= $1 from newest)
from (select distinct on (n.xid) n.xid, n.seq, n.at from newest n order by n.xid desc, n.seq desc) e
