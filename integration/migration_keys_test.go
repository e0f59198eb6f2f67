package integration

import "testing"

// without is SQL that leaves one row of each id, before id is a key again.
const without = "begin; lock table %[1]s; delete from %[1]s a using %[1]s b where a.id = b.id and a.ctid > b.ctid; "

// What is done to the key.
var keyMigrations = map[string]migration{
	"the key is dropped": {
		sql: "alter table %[1]s drop constraint %[1]s_pkey", write: touch,
		says: "it has no primary key", mend: without + "alter table %[1]s add primary key (id); commit",
	},
	"the key becomes deferrable": {
		sql: "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id) deferrable", write: touch,
		says: "DEFERRABLE", mend: "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id)",
	},
	"the key is another one": {
		sql: "alter table %[1]s add k int generated always as identity; alter table %[1]s drop constraint %[1]s_pkey, add primary key (k)", write: touch,
		says: "the primary key was (id) and is (k)", mend: without + "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id), drop k; commit",
	},
	"the key grows by a column": {
		sql: "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id, v)", write: touch,
		says: "the primary key was (id) and is (id, v)", mend: without + "alter table %[1]s drop constraint %[1]s_pkey, add primary key (id); commit",
	},
	"the key's type is changed":    {sql: "alter table %[1]s alter id type bigint", write: touch},
	"the key's values are changed": {sql: "alter table %[1]s alter id type bigint using id + 1000", write: touch},
	"the key's type does not fit": {
		sql: "alter table %[1]s alter id type text", write: "update %[1]s set v = 1",
		says: "id", mend: "alter table %[1]s alter id type int using id::int", fails: []string{"42883", "42804", ""}, // "": their driver cannot make text of a number
	},
	"the key's column is renamed": {
		sql: "alter table %[1]s rename id to ident", write: "update %[1]s set v = 1",
		says: "the primary key was (id) and is (ident)", mend: "alter table %[1]s rename ident to id", fails: []string{"42703"},
	},
	"the key's index is another one": {sql: "create unique index %[1]s_other on %[1]s (id); alter table %[1]s drop constraint %[1]s_pkey, add primary key using index %[1]s_other", write: touch},
}

func TestWritersAndNodesLiveThroughChangesOfTheKey(t *testing.T) {
	underTraffic(t, keyMigrations)
}
