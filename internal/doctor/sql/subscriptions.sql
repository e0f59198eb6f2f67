-- Captured tables that a subscription feeds.
select t.name, pg_catalog.quote_ident(s.subname), t.mode
from :"schema".tables t join pg_catalog.pg_subscription_rel r on r.srrelid = t.relid join pg_catalog.pg_subscription s on s.oid = r.srsubid
order by 1, 2
