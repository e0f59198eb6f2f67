package integration

import "testing"

// What is done to capture, or around it.
var captureMigrations = map[string]migration{
	"a trigger is dropped":  {sql: "drop trigger lockstep_update on %[1]s", write: touch, says: "trigger lockstep_update"},
	"a trigger is disabled": {sql: "alter table %[1]s disable trigger lockstep_update", write: touch, says: "is disabled"},
	"a trigger is renamed":  {sql: "alter trigger lockstep_update on %[1]s rename to theirs", write: touch, says: "trigger lockstep_update", mend: "drop trigger theirs on %[1]s"},
	"all are disabled":      {sql: "alter table %[1]s disable trigger all", write: touch, says: "is disabled"},
	"disabled for one transaction": {
		sql: "begin; alter table %[1]s disable trigger all; update %[1]s set v = 77; alter table %[1]s enable always trigger lockstep_insert; " +
			"alter table %[1]s enable always trigger lockstep_update; alter table %[1]s enable always trigger lockstep_delete; " +
			"alter table %[1]s enable always trigger lockstep_truncate; commit",
		write: "select 1",
	},
	"written as a replica":           {sql: "set session_replication_role = replica; update %[1]s set v = 66; reset session_replication_role", write: touch},
	"a policy hides rows":            {sql: "alter table %[1]s enable row level security", write: touch},
	"the functions lose their right": {sql: "revoke select on %[1]s from lockstep_capture", write: touch + "; update %[1]s set id = id + 20; insert into %[1]s values (1, 1)"},
	"a trigger of theirs comes": {
		sql:   "create trigger theirs before update on %[1]s for each row execute function suppress_redundant_updates_trigger()",
		write: touch,
	},
}

func TestWritersAndNodesLiveThroughChangesOfCapture(t *testing.T) {
	underTraffic(t, captureMigrations)
}
