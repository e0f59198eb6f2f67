package triggers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

func events(t *testing.T, db *pgtest.DB) []string {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), "select format('%s %s %s %s', table_name, op, lead, row) from lockstep.outbox order by seq")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSmoke(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `create table emp (id int primary key, name text, "lead" boolean, n int, c text)`)
	db.Exec(t, `create table part (id int, r int, primary key (id, r)) partition by range (r)`)
	db.Exec(t, `create table part1 partition of part for values from (0) to (10)`)
	db.Exec(t, `create table part2 partition of part for values from (10) to (20)`)
	pool := db.Pool(t)
	if err := triggers.Install(t.Context(), pool, triggers.Options{}, "emp", "public.part"); err != nil {
		t.Fatal(err)
	}
	f, err := triggers.Inspect(t.Context(), pool, triggers.Options{})
	fmt.Println(f, err)
	db.Exec(t, "insert into emp values (1,'a',true,1,'c'), (2,'b',null,2,'d')")
	db.Exec(t, "update emp set name = name || 'x'")
	db.Exec(t, "update emp set id = id + 10")
	db.Exec(t, "delete from emp where id = 11")
	db.Exec(t, "update emp set name = 'q' where false")
	db.Exec(t, "insert into emp values (20, 'a'), (12, 'c') on conflict (id) do update set name = excluded.name")
	db.Exec(t, "insert into emp select 30, string_agg(md5(i::text), '') from generate_series(1, 20000) i")
	db.Exec(t, "truncate emp")
	db.Exec(t, "insert into part values (1,1),(2,12)")
	db.Exec(t, "update part set r = 13 where id = 1")
	db.Exec(t, "delete from part where id = 2")
	db.Exec(t, "truncate part1")
	db.Exec(t, "begin; insert into emp values (1); savepoint a; insert into emp values (2); rollback to a; insert into emp values (3); commit")
	fmt.Println(strings.Join(events(t, db), "\n"))
	if err := triggers.Uninstall(t.Context(), pool, triggers.Options{}); err != nil {
		t.Fatal(err)
	}
}
