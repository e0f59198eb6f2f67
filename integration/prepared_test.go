package integration

import (
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

// Two-phase commit works with the bell off, which is how it is where transactions can be prepared: what is
// prepared is seen by nobody, through a crash of the server and whatever is committed meanwhile, until it is
// committed, and then once.
func TestAPreparedTransactionIsSeenOnceWhenItIsCommittedAndNeverWhenItIsRolledBack(t *testing.T) {
	c := own(t, pgtest.With("max_prepared_transactions", "5"))
	db := c.New(t)
	db.Exec(t, "create table items (id int primary key, v int not null); insert into items select i, 0 from generate_series(1, 100) i")
	if err := triggers.Install(deadline(t), db.Pool(t), triggers.Options{Logger: silent}, "public.items"); err != nil {
		t.Fatal(err)
	}
	node, table := start(t, db.Pool(t))
	changes := subscribe(t, table)
	loads := len(node.Status().Loads)
	db.Exec(t, "begin; update items set v = 1 where id = 1; insert into items values (201, 1); prepare transaction 'kept'")
	db.Exec(t, "begin; update items set v = 2 where id = 2; delete from items where id = 50; prepare transaction 'dropped'")
	db.Exec(t, "update items set v = 3 where id = 3")
	unseen := func(when string) {
		t.Helper()
		barrier(t, node)
		_, inserted := table.Get(201)
		if one, _ := table.Get(1); one.V != 0 || inserted {
			t.Errorf("%s: row 1 is %d, row 201 is there: %v", when, one.V, inserted)
		}
		if two, _ := table.Get(2); two.V != 0 {
			t.Errorf("%s: row 2 is %d", when, two.V)
		}
		wantSame(t, db, table)
	}
	unseen("prepared")
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(deadline(t)); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "update items set v = 4 where id = 4")
	unseen("prepared, after a crash")
	db.Exec(t, "rollback prepared 'dropped'")
	unseen("the other rolled back")
	db.Exec(t, "commit prepared 'kept'")
	barrier(t, node)
	wantSame(t, db, table)
	if one, _ := table.Get(1); one.V != 1 {
		t.Errorf("committed: row 1 is %d", one.V)
	}
	db.Exec(t, "update items set v = 99 where id = 9")
	want := map[int]lockstep.Op{1: lockstep.OpUpdate, 3: lockstep.OpUpdate, 4: lockstep.OpUpdate, 9: lockstep.OpUpdate, 201: lockstep.OpInsert}
	wantDifferences(t, changes.upTo(func(ch lockstep.Change[int, item]) bool { return ch.Key == 9 }), want)
	if s := node.Status(); len(s.Loads) != loads {
		t.Errorf("the node loaded again: %+v", s.Loads)
	}
}
