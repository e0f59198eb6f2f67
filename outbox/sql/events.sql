-- What is new since a position: two ranges of the primary key.
select o.seq, o.xid, o.table_name, o.op, o.lead, o.row::text, o.at
from :"schema".outbox o where o.xid >= $1
union all
select o.seq, o.xid, o.table_name, o.op, o.lead, o.row::text, o.at
from :"schema".outbox o where o.xid = any ($2)
order by 1
