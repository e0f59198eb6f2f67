-- Which of these transactions the outbox does not hold as they were.
select a.n::int
from unnest($1::xid8[], $2::bigint[], $3::timestamptz[]) with ordinality a(xid, seq, at, n)
where not exists (select from :"schema".outbox o where o.xid = a.xid and o.seq = a.seq and o.at = a.at)
order by a.n
