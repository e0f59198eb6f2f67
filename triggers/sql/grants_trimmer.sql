-- What trimming needs.
grant usage on schema :"schema" to :"role";
grant select, delete on :"schema".outbox to :"role";
grant select, update on :"schema".horizon to :"role";
grant select on :"schema".nodes, :"schema".meta to :"role";
