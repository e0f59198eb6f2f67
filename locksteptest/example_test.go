package locksteptest_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/locksteptest"
)

type Employee struct {
	ID         int
	Name       string
	Department int
}

type Department struct {
	ID      int
	Manager string
}

// quiet is a configuration that logs nothing.
var quiet = lockstep.Config{Logger: slog.New(slog.DiscardHandler)}

// Directory is what the tests below are about: a program's own code on a node.
type Directory struct {
	Emp  *lockstep.Table[int, Employee]
	Dept *lockstep.Table[int, Department]
	node *lockstep.Node
}

func NewDirectory() *Directory {
	return &Directory{
		Emp:  lockstep.NewTable("public.employees", func(e Employee) int { return e.ID }),
		Dept: lockstep.NewTable("public.departments", func(d Department) int { return d.ID }),
	}
}

// ManagerOf reads two tables as of one instant.
func (d *Directory) ManagerOf(id int) (name string) {
	d.node.View(func(v *lockstep.View) {
		e, _ := d.Emp.At(v).Get(id)
		dept, _ := d.Dept.At(v).Get(e.Department)
		name = dept.Manager
	})
	return name
}

func Example() {
	// Declare the tables as the program does.
	dir := NewDirectory()

	// In a test: db := locksteptest.New(t, ...), which also closes the node.
	db, err := locksteptest.Start(quiet,
		locksteptest.With(dir.Emp, Employee{1, "Ada", 10}, Employee{2, "Bob", 20}),
		locksteptest.With(dir.Dept, Department{10, "Grace"}, Department{20, "Edsger"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	dir.node = db.Node()
	fmt.Println(dir.ManagerOf(1))

	// Somebody else commits.
	db.Commit(func(tx *locksteptest.Tx) {
		locksteptest.Put(tx, dir.Emp, Employee{1, "Ada", 20})
		locksteptest.Delete(tx, dir.Dept, 10)
	})
	fmt.Println(dir.ManagerOf(1))

	// The network fails: reads go on, writes say so, and nothing is lost.
	db.Disconnect()
	db.Commit(func(tx *locksteptest.Tx) { locksteptest.Put(tx, dir.Dept, Department{20, "Barbara"}) })
	_, err = dir.Emp.Put(context.Background(), Employee{3, "Eve", 20})
	fmt.Println(dir.ManagerOf(1), db.Node().Status().State, err)
	db.Reconnect()
	fmt.Println(dir.ManagerOf(1), db.Node().Status().State)
	// Output:
	// Grace
	// Edsger
	// Edsger stale lockstep: not committed: Postgres cannot be reached: locksteptest: the node is cut off
	// Barbara live
}

func ExampleNew() { //nolint:testableexamples // it needs a test to run in
	_ = func(t *testing.T) { // func TestMoves(t *testing.T) {
		dir := NewDirectory()
		db := locksteptest.New(t, locksteptest.With(dir.Emp, Employee{1, "Ada", 10}), dir.Dept)
		db.Commit(func(tx *locksteptest.Tx) { locksteptest.Put(tx, dir.Emp, Employee{1, "Ada", 20}) })
		if e, _ := dir.Emp.Get(1); e.Department != 20 {
			t.Error("Ada has not moved")
		}
	}
}

func ExampleDB_Refuse() {
	dir := NewDirectory()
	db, err := locksteptest.Start(quiet, dir.Emp)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	db.Refuse(&lockstep.WriteError{Outcome: lockstep.ErrOutcomeUnknown, Err: fmt.Errorf("the connection broke")})
	_, err = dir.Emp.Put(context.Background(), Employee{1, "Ada", 10})
	fmt.Println(err)
	// Output: lockstep: commit outcome unknown: the connection broke
}
