package integration

import "testing"

// What is done to columns and their types.
var columnMigrations = map[string]migration{
	"a column is added":              {sql: "alter table %[1]s add extra text not null default 'x'", write: touch},
	"a column that nobody maps goes": {sql: "alter table %[1]s add extra text; alter table %[1]s drop extra", write: touch},
	"a mapped column is dropped": {
		sql: "alter table %[1]s drop v", write: "insert into %[1]s values (11)",
		says: `no column "V"`, mend: "alter table %[1]s add v int not null default 7", fails: []string{"42703"},
	},
	"a mapped column is renamed": {
		sql: "alter table %[1]s rename v to w", write: "update %[1]s set w = 5",
		says: `no column "V"`, mend: "alter table %[1]s rename w to v", column: "w", fails: []string{"42703"},
	},
	"two columns change names": {
		sql: "alter table %[1]s add w int not null default 5; begin; alter table %[1]s rename v to x; alter table %[1]s alter x drop not null; " +
			"alter table %[1]s rename w to v; commit",
		write: touch,
	},
	"dropped and added in one go":                 {sql: "alter table %[1]s drop v, add v int not null default 9", write: touch},
	"its type is changed":                         {sql: "alter table %[1]s alter v type bigint using v + 1000", write: touch},
	"its type is changed and its rows stay":       {sql: "create domain %[1]s_d as int; alter table %[1]s alter v type %[1]s_d", write: touch},
	"a column takes the place of a dropped one":   {sql: "begin; alter table %[1]s add w int not null default 3; alter table %[1]s drop v; alter table %[1]s rename w to v; commit", write: touch},
	"a default and a check come":                  {sql: "alter table %[1]s alter v set default 4, add check (v > -100000)", write: touch},
	"an enum's value is renamed":                  {kind: mooded, sql: "alter type %[1]s_m rename value 'a' to 'z'", write: touch},
	"an enum's values change places":              {kind: mooded, sql: "begin; alter type %[1]s_m rename value 'a' to 'x'; alter type %[1]s_m rename value 'b' to 'a'; alter type %[1]s_m rename value 'x' to 'b'; commit", write: touch},
	"an enum's value is added":                    {kind: mooded, sql: "alter type %[1]s_m add value 'c'; update %[1]s set m = 'c' where id = 1", write: touch},
	"an enum column becomes text":                 {kind: mooded, sql: "alter table %[1]s alter m drop default, alter m type text using m::text || '!', alter m set default 'n'", write: touch},
	"an enum that nobody maps is renamed in part": {sql: "create type %[1]s_m as enum ('a'); alter table %[1]s add m %[1]s_m default 'a'; alter type %[1]s_m rename value 'a' to 'b'", write: touch},
}

func TestWritersAndNodesLiveThroughChangesOfColumns(t *testing.T) {
	underTraffic(t, columnMigrations)
}
