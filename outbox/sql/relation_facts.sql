    -- What the catalogues say of the relation x.part.
    select 'c' || c.oid || ':' || c.xmin || ':' || c.relfilenode from pg_class c where c.oid = x.part
    union all select 'a' || a.attrelid || '.' || a.attnum || ':' || a.xmin from pg_attribute a where a.attrelid = x.part and a.attnum > 0
    union all select 'd' || d.oid || ':' || d.xmin from pg_attrdef d where d.adrelid = x.part
    union all select 'i' || i.indexrelid || ':' || i.xmin from pg_index i where i.indrelid = x.part
    union all select 'g' || g.oid || ':' || g.xmin from pg_trigger g where g.tgrelid = x.part
    union all select 'h' || i.inhrelid || '<' || i.inhparent || ':' || i.xmin from pg_inherits i where i.inhrelid = x.part
    union all select 'h' || i.inhrelid || '<' || i.inhparent || ':' || i.xmin from pg_inherits i where i.inhparent = x.part
    union all select 's' || s.srsubid || ':' || s.srrelid from pg_subscription_rel s where s.srrelid = x.part
