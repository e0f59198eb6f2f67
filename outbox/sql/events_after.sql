-- events.sql for a position that leaves out no transaction below its end, as most do: one range of the primary key.
select o.seq, o.xid, o.table_name, o.op, o.lead, o.row::text, o.at
from :"schema".outbox o where o.xid >= $1
order by 1
