package integration

import "testing"

// What is done to partitions.
var partitionMigrations = map[string]migration{
	"a partition is created": {
		kind: parted, sql: "create table %[1]s_c partition of %[1]s for values from (100) to (200); insert into %[1]s values (110, 1); truncate %[1]s_c", write: touch,
		says: "trigger lockstep_truncate is missing on public.%[1]s_c",
	},
	"a partition with rows is attached": {
		kind: parted, sql: "create table %[1]s_c (like %[1]s including all); insert into %[1]s_c select i, 1 from generate_series(100, 150) i; " +
			"alter table %[1]s attach partition %[1]s_c for values from (100) to (200)", write: touch,
		says: "trigger lockstep_truncate is missing on public.%[1]s_c",
	},
	"a partition is detached":              {kind: parted, sql: "alter table %[1]s detach partition %[1]s_b", write: touch, fails: []string{"23514"}},
	"a partition is detached concurrently": {kind: parted, sql: "alter table %[1]s detach partition %[1]s_b concurrently", write: touch, fails: []string{"23514"}},
	"a partition is detached and attached": {kind: parted, sql: "alter table %[1]s detach partition %[1]s_b; update %[1]s_b set v = 7; alter table %[1]s attach partition %[1]s_b for values from (20) to (60)", write: touch, fails: []string{"23514"}},
	"a partition is dropped":               {kind: parted, sql: "drop table %[1]s_b", write: touch, fails: []string{"23514"}},
	"a partition is truncated alone":       {kind: parted, sql: "truncate %[1]s_b", write: touch},
	"a partition is split": {
		kind: parted, sql: "begin; alter table %[1]s detach partition %[1]s_b; create table %[1]s_c partition of %[1]s for values from (20) to (30); " +
			"create table %[1]s_d partition of %[1]s for values from (30) to (60); insert into %[1]s select * from %[1]s_b; drop table %[1]s_b; commit",
		write: touch, says: "trigger lockstep_truncate is missing on public.%[1]s_c",
	},
}

func TestWritersAndNodesLiveThroughChangesOfPartitions(t *testing.T) {
	underTraffic(t, partitionMigrations)
}
