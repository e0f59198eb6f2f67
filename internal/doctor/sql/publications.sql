-- Publications that carry the outbox, or would once it is there.
select pg_catalog.quote_ident(p.pubname), p.puballtables
from pg_catalog.pg_publication p
where p.puballtables or exists (select from pg_catalog.pg_publication_tables t where t.pubname = p.pubname and t.schemaname = :'schema' and t.tablename = 'outbox')
order by 1
