package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

type Employee struct {
	ID         uuid.UUID
	Name       string
	Department int
	Hired      time.Time
	Salary     *int64
}

func TestSmokeNode(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(t, `create table employees (id uuid primary key default gen_random_uuid(), name text not null, department int not null, hired timestamptz not null default now(), salary bigint, extra jsonb)`)
	db.Exec(t, `insert into employees (name, department) select 'e'||i, i % 10 from generate_series(1, 1000) i`)
	pool := db.Pool(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := triggers.Install(ctx, pool, triggers.Options{}, "public.employees"); err != nil {
		t.Fatal(err)
	}
	emp := lockstep.NewTable("public.employees", func(e Employee) uuid.UUID { return e.ID })
	byDept := lockstep.NewIndex(emp, func(e Employee) int { return e.Department })
	node, err := lockstep.Start(ctx, pool, lockstep.Config{Name: "n1"}, emp)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(context.Background())
	if emp.Len() != 1000 || byDept.Len(3) != 100 {
		t.Fatal(emp.Len(), byDept.Len(3))
	}
	e := Employee{ID: uuid.New(), Name: "x", Department: 3, Hired: time.Now()}
	start := time.Now()
	tok, err := emp.Put(ctx, e)
	fmt.Println(tok, err, time.Since(start))
	got, ok := emp.Get(e.ID)
	fmt.Println(got, ok)
	for range 5 {
		start = time.Now()
		_, err = emp.Update(ctx, e.ID, func(e Employee) (Employee, error) { e.Department++; return e, nil })
		fmt.Println(err, time.Since(start))
	}
	db.Exec(t, "update employees set salary = 7; truncate employees")
	if err := node.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if emp.Len() != 0 {
		t.Fatal(emp.Len())
	}
	fmt.Printf("%+v\n", node.Status())
}
