package integration

import "testing"

// What is done to the table as a whole.
var tableMigrations = map[string]migration{
	"the table is renamed": {
		sql: "alter table %[1]s rename to %[1]s_new", write: "update %[1]s_new set v = 3",
		says: "it is not there", mend: "alter table %[1]s_new rename to %[1]s", table: "%[1]s_new", fails: []string{"42P01"},
	},
	"the table changes its schema": {
		sql: "create schema %[1]s_s; alter table %[1]s set schema %[1]s_s", write: "update %[1]s_s.%[1]s set v = 3",
		says: "it is not there", mend: "alter table %[1]s_s.%[1]s set schema public", table: "%[1]s_s.%[1]s", fails: []string{"42P01"},
	},
	"dropped and created again": {
		sql: "begin; drop table %[1]s; create table %[1]s (id int primary key, v int not null); insert into %[1]s values (1, 5); commit", write: touch,
		says: "its changes are not captured",
	},
	"another table takes its place": {
		sql: "create table %[1]s_n (like %[1]s including all); insert into %[1]s_n values (1, 5); " +
			"begin; alter table %[1]s rename to %[1]s_o; alter table %[1]s_n rename to %[1]s; commit",
		write: touch + "; update %[1]s_o set v = 77",
		says:  "its changes are not captured",
	},
	"it is given a parent": {
		sql: "create table %[1]s_p (id int, v int); alter table %[1]s inherit %[1]s_p", write: "update %[1]s_p set v = 8",
		says: "inherit", mend: "alter table %[1]s no inherit %[1]s_p",
	},
	"it is given a child": {
		sql: "create table %[1]s_c () inherits (%[1]s)", write: "update %[1]s set v = 8; insert into %[1]s_c values (50, 50)",
		says: "inherit", mend: "drop table %[1]s_c",
	},
	"it becomes unlogged":              {sql: "alter table %[1]s set unlogged", write: touch, says: "unlogged", mend: "alter table %[1]s set logged"},
	"it is rewritten":                  {sql: "cluster %[1]s using %[1]s_pkey", write: touch},
	"it becomes a partition":           {sql: "create table %[1]s_r (id int not null, v int not null) partition by range (id); alter table %[1]s_r attach partition %[1]s for values from (-1000) to (1000)", write: touch + "; update %[1]s_r set v = 3", says: "it is a partition", mend: "alter table %[1]s_r detach partition %[1]s", fails: []string{"23514"}},
	"emptied together with a rollback": {sql: "begin; truncate %[1]s; rollback; truncate %[1]s", write: "insert into %[1]s values (4, 4)"},
}

func TestWritersAndNodesLiveThroughChangesOfTheTable(t *testing.T) {
	underTraffic(t, tableMigrations)
}
