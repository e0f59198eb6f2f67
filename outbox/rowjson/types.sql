-- Everything about the types $1 (oid[]) that decides how row_to_json prints
-- them, and the same for every type that they are made of.
WITH RECURSIVE need(oid) AS (
    SELECT u.oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS u(oid)
    UNION
    SELECT part.oid
    FROM need
    JOIN pg_catalog.pg_type AS t ON t.oid = need.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL
        -- name, point and others have a typelem too and are no arrays.
        SELECT t.typelem WHERE t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
        UNION ALL
        SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
        UNION ALL
        SELECT r.rngtypid FROM pg_catalog.pg_range AS r WHERE r.rngmultitypid = t.oid
    ) AS part(oid)
    WHERE part.oid <> 0
)
SELECT t.oid,
       n.nspname::text,
       t.typname::text,
       t.typtype::text,
       t.typdelim::text,
       CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
            THEN t.typelem ELSE 0 END AS elem,
       t.typbasetype,
       COALESCE(r.rngsubtype, 0),
       COALESCE(m.rngtypid, 0),
       -- row_to_json looks for a cast only where the type is not built in.
       COALESCE((SELECT pg_catalog.format('%I.%I', pn.nspname, p.proname)
                 FROM pg_catalog.pg_cast AS c
                 JOIN pg_catalog.pg_proc AS p ON p.oid = c.castfunc
                 JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
                 WHERE c.castsource = t.oid AND c.casttarget = 'pg_catalog.json'::pg_catalog.regtype
                   AND c.castmethod = 'f' AND t.oid >= 16384), '') AS json_cast,
       COALESCE(f.names, '{}'),
       COALESCE(f.oids, '{}')
FROM need
JOIN pg_catalog.pg_type AS t ON t.oid = need.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_range AS r ON r.rngtypid = t.oid
LEFT JOIN pg_catalog.pg_range AS m ON m.rngmultitypid = t.oid
LEFT JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) AS names,
           pg_catalog.array_agg(a.atttypid ORDER BY a.attnum) AS oids
    FROM pg_catalog.pg_attribute AS a
    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
) AS f ON true
