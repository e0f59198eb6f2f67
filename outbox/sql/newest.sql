-- The newest transactions in the outbox, each by its last event: what a node
-- that has just loaded can hold on to.
select e.xid, e.seq, e.at
from (select distinct on (o.xid) o.xid, o.seq, o.at
      from (select xid, seq, at from :"schema".outbox order by xid desc, seq desc limit $1) o
      order by o.xid desc, o.seq desc) e
