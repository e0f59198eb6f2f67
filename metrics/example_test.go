package metrics_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/locksteptest"
	"github.com/pglockstep/lockstep/metrics"
)

func ExampleNew() {
	type Employee struct{ ID int }
	employees := lockstep.NewTable("public.employees", func(e Employee) int { return e.ID })
	db, err := locksteptest.Start(lockstep.Config{}, locksteptest.With(employees, Employee{1}, Employee{2}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()

	registry := prometheus.NewRegistry() // the application's own
	registry.MustRegister(metrics.New(db.Node()))

	n, err := testutil.GatherAndCount(registry, "lockstep_table_rows")
	fmt.Println(n, err)
	// Output: 1 <nil>
}
