-- The tables that are captured, by oid.
select t.relid from :"schema".tables t order by t.relid
