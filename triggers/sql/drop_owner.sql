-- What the owner was granted in this database (USAGE on the tables' schemas), then the role itself.
select set_config('lockstep.install_owner', :'owner', true);
do $do$
begin
  if exists (select from pg_catalog.pg_roles where rolname = current_setting('lockstep.install_owner')) then
    execute format('drop owned by %I', current_setting('lockstep.install_owner'));
    execute format('drop role %I', current_setting('lockstep.install_owner'));
  end if;
end
$do$;
