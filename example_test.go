package lockstep_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/locksteptest"
)

type Employee struct {
	ID         uuid.UUID
	Name       string
	Department int
}

type Department struct {
	ID      int
	Manager uuid.UUID `db:"manager_id"`
}

// The first twenty lines of a program.
func Example() { //nolint:testableexamples // it needs a server
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/company")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	emp := lockstep.NewTable("public.employees", func(e Employee) uuid.UUID { return e.ID })
	dept := lockstep.NewTable("public.departments", func(d Department) int { return d.ID })
	byDept := lockstep.NewIndex(emp, func(e Employee) int { return e.Department })

	node, err := lockstep.Start(ctx, pool, lockstep.Config{Name: "web-1"}, emp, dept)
	if err != nil {
		log.Fatal(err) // every mistake of every declaration
	}
	defer node.Close(ctx)

	for _, e := range byDept.All(10) { // from memory
		fmt.Println(e.Name)
	}
}

var (
	ada   = Employee{uuid.MustParse("00000000-0000-4000-8000-00000000000a"), "Ada", 10}
	bob   = Employee{uuid.MustParse("00000000-0000-4000-8000-00000000000b"), "Bob", 10}
	grace = Employee{uuid.MustParse("00000000-0000-4000-8000-00000000000c"), "Grace", 20}
)

// company is a node without Postgres, for the examples below.
type company struct {
	*lockstep.Node
	db     *locksteptest.DB
	emp    *lockstep.Table[uuid.UUID, Employee]
	dept   *lockstep.Table[int, Department]
	byDept *lockstep.Index[int, uuid.UUID, Employee]
}

func newCompany() (c company) {
	c.emp = lockstep.NewTable("public.employees", func(e Employee) uuid.UUID { return e.ID })
	c.dept = lockstep.NewTable("public.departments", func(d Department) int { return d.ID })
	c.byDept = lockstep.NewIndex(c.emp, func(e Employee) int { return e.Department })
	var err error
	c.db, err = locksteptest.Start(lockstep.Config{Name: "web-1", Logger: slog.New(slog.DiscardHandler)},
		locksteptest.With(c.emp, ada, bob, grace),
		locksteptest.With(c.dept, Department{10, ada.ID}, Department{20, grace.ID}))
	if err != nil {
		log.Fatal(err)
	}
	c.Node = c.db.Node()
	return c
}

func ExampleConfig_checkpoint() { //nolint:testableexamples // it needs a server
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/company")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	emp := lockstep.NewTable("public.employees", func(e Employee) uuid.UUID { return e.ID })
	node, err := lockstep.Start(ctx, pool, lockstep.Config{
		Name:       "web-1", // the same after a restart: the checkpoint is found by it
		Checkpoint: "/var/lib/web/lockstep",
	}, emp)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(ctx) // writes the next one

	if c := node.Status().Checkpoint; c.Restored {
		fmt.Println("from a checkpoint of", c.At, "and", node.Status().EventsReplayed, "events")
	} else if c.Refused != "" {
		fmt.Println("loaded:", c.Refused)
	}
}

func ExampleTable_Get() {
	node := newCompany()
	defer node.db.Close()

	e, ok := node.emp.Get(ada.ID) // the newest row; no context, no error, no network
	fmt.Println(e.Name, ok, node.emp.Len())
	// Output: Ada true 3
}

func ExampleIndex_All() {
	node := newCompany()
	defer node.db.Close()

	sum := 0
	for _, e := range node.byDept.All(10) { // as of one instant, in no order
		sum += len(e.Name)
	}
	fmt.Println(node.byDept.Len(10), sum)
	// Output: 2 6
}

func ExampleNode_View() {
	node := newCompany()
	defer node.db.Close()

	managerOf := func(id uuid.UUID) (name string) {
		node.View(func(v *lockstep.View) { // one instant of all tables
			e, _ := node.emp.At(v).Get(id)
			d, _ := node.dept.At(v).Get(e.Department)
			m, _ := node.emp.At(v).Get(d.Manager)
			name = m.Name
		})
		return name
	}
	fmt.Println(managerOf(bob.ID))
	// Output: Ada
}

func ExampleTable_Changes() {
	node := newCompany()
	defer node.db.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	rows := 0
	for c, err := range node.emp.Changes(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		switch c.Op {
		case lockstep.OpCurrent: // a row that was there when the loop began
			rows++
		case lockstep.OpLive: // what follows is new
			fmt.Println(rows, "rows")
			go node.emp.Delete(ctx, bob.ID)
		case lockstep.OpInsert, lockstep.OpUpdate, lockstep.OpDelete:
			fmt.Println(c.Op, c.Old.Name)
			cancel()
		case lockstep.OpReset: // this loop was too slow: forget everything, it starts again
			rows = 0
		}
	}
	// Output:
	// 3 rows
	// delete Bob
	// context canceled
}

func ExampleNode_Changes() {
	node := newCompany()
	defer node.db.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	for tx, err := range node.Changes(ctx) { // whole transactions, across tables
		switch {
		case err != nil:
			return
		case tx.Reset: // open a View for the rows; what follows is newer
			go node.db.Commit(func(tx *locksteptest.Tx) { // somebody commits
				locksteptest.Delete(tx, node.emp, grace.ID)
				locksteptest.Put(tx, node.dept, Department{20, ada.ID})
			})
		default:
			for _, c := range tx.Changes {
				fmt.Println(c.Table, c.Op)
			}
			return
		}
	}
	// Output:
	// public.employees delete
	// public.departments update
}

func ExampleTable_Put() {
	node := newCompany()
	defer node.db.Close()
	ctx := context.Background()

	tok, err := node.emp.Put(ctx, Employee{bob.ID, "Robert", 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	e, _ := node.emp.Get(bob.ID) // a write is visible here when it returns
	fmt.Println(e.Name, node.byDept.Len(20))

	other := node // another node waits for the token, which travels as text
	passed, _ := lockstep.ParseToken(tok.String())
	fmt.Println(other.WaitFor(ctx, passed))
	// Output:
	// Robert 2
	// <nil>
}

func ExampleTable_Update() {
	node := newCompany()
	defer node.db.Close()

	_, err := node.emp.Update(context.Background(), ada.ID, func(e Employee) (Employee, error) {
		e.Department = 20 // the row is read from Postgres, and locked
		return e, nil
	})
	e, _ := node.emp.Get(ada.ID)
	fmt.Println(e.Department, err)
	// Output: 20 <nil>
}

func ExampleWriteError() {
	node := newCompany()
	defer node.db.Close()
	node.db.Disconnect()

	_, err := node.emp.Put(context.Background(), bob)
	switch {
	case err == nil: // committed, and visible here
	case errors.Is(err, lockstep.ErrNotVisible): // committed; the *WriteError has the token to wait on
		var we *lockstep.WriteError
		errors.As(err, &we)
		fmt.Println("wait for", we.Token)
	case errors.Is(err, lockstep.ErrOutcomeUnknown): // the connection broke: look before you write again
		fmt.Println("look")
	case errors.Is(err, lockstep.ErrNotCommitted): // nothing has happened
		fmt.Println("unavailable:", errors.Is(err, lockstep.ErrUnavailable))
	}
	// Output: unavailable: true
}

func ExampleNode_Tx() { //nolint:testableexamples // it needs a server
	var node *lockstep.Node // from Start
	ctx := context.Background()

	_, err := node.Tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "update employees set department = $1 where department = $2", 20, 10)
		return err
	})
	fmt.Println(err) // nil: committed, and visible here
}

func ExampleTokenOf() { //nolint:testableexamples // it needs a server
	var conn *pgx.Conn // of any process
	ctx := context.Background()

	var tok lockstep.Token
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		if _, err = tx.Exec(ctx, "delete from employees"); err != nil {
			return err
		}
		tok, err = lockstep.TokenOf(ctx, tx)
		return err
	})
	fmt.Println(tok, err) // once committed, any node can WaitFor it
}

func ExampleNode_Barrier() {
	node := newCompany()
	defer node.db.Close()
	node.db.Commit(func(tx *locksteptest.Tx) { // by somebody, who tells us on another way
		locksteptest.Delete(tx, node.emp, bob.ID)
	}, locksteptest.NoWait)

	if err := node.Barrier(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(node.emp.Len()) // everything that was committed before Barrier
	// Output: 2
}

func ExampleNode_Reload() {
	node := newCompany()
	defer node.db.Close()

	err := node.Reload(context.Background(), node.emp) // readers are served meanwhile
	fmt.Println(err, node.emp.Len())
	// Output: <nil> 3
}

func ExampleNode_Status() {
	node := newCompany()
	defer node.db.Close()

	st := node.Status()
	fmt.Println(st.Name, st.State, st.Tables[0].Rows)
	node.db.Disconnect()
	fmt.Println(node.Status().State)
	node.db.Reconnect()
	st = node.Status()
	fmt.Println(st.State, st.Replays, st.Resyncs)
	// Output:
	// web-1 live 3
	// stale
	// live 1 0
}

func ExampleWithRow() {
	type Money struct {
		ID    int
		Cents int64
	}
	scan := func(row pgx.CollectableRow) (m Money, err error) {
		var euros float64
		err = row.Scan(&m.ID, &euros)
		m.Cents = int64(euros * 100)
		return m, err
	}
	accounts := lockstep.NewTable("bank.accounts", func(m Money) int { return m.ID },
		lockstep.WithRow[int](scan, "id", "balance"),
		lockstep.WithEncode[int](func(m Money) []any { return []any{m.ID, float64(m.Cents) / 100} }))
	fmt.Println(accounts.Name())
	// Output: bank.accounts
}
