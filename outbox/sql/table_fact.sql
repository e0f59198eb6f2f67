    -- What our own register says of the table x.part; offset 0: see fingerprints.sql.
    select 'r' || r.name || ':' || r.xmin from :"schema".tables r join pg_class c on c.oid = r.relid where r.relid = x.part offset 0
