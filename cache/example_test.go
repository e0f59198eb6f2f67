package cache_test

import (
	"fmt"

	"github.com/pglockstep/lockstep/cache"
)

func Example() {
	type employee struct{ Name, Dept string }
	employees := cache.NewTable[int, employee]("employees")
	byDept := cache.NewIndex(employees, func(e employee) string { return e.Dept })
	headcount := cache.NewTable[string, int]("headcount")
	store, err := cache.NewStore(cache.Options{}, employees, headcount)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	w := store.Begin()
	employees.Put(w, cache.Origin{}, 1, employee{"Ada", "engines"})
	employees.Put(w, cache.Origin{}, 2, employee{"Grace", "engines"})
	headcount.Put(w, cache.Origin{}, "engines", 2)
	_, visible := employees.Get(1)
	fmt.Println("before Publish:", visible)
	w.Publish(nil)

	store.View(func(v *cache.View) { // one instant, both tables and the index
		n, _ := headcount.At(v).Get("engines")
		fmt.Println("headcount", n, "and", byDept.At(v).Len("engines"), "found")
	})
	// Output:
	// before Publish: false
	// headcount 2 and 2 found
}
