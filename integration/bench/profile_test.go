package main

import (
	"testing"

	"github.com/google/pprof/profile"
)

func TestAStackBelongsToTheInnermostThatIsNamed(t *testing.T) {
	stack := func(innermostFirst ...string) (list []*profile.Location) {
		for _, name := range innermostFirst {
			list = append(list, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		return list
	}
	const scan, put = module + "internal/rowmap.(*Fields).scan", module + "cache.(*Table[...]).Put"
	for want, s := range map[string][]*profile.Location{
		"allocating":               stack("runtime.memclr", "runtime.mallocgc", scan, module+"replay.(*loop).run"),
		"collecting garbage":       stack("runtime.gcDrainN", "runtime.gcAssistAlloc", "runtime.mallocgc", scan),
		"decoding values":          stack(scan, put),
		"the map and its versions": stack("runtime.memmove", put, scan),
		rest:                       stack("runtime.futex", "runtime.mcall"),
	} {
		if got := taker(s); got != want {
			t.Errorf("%q and not %q", got, want)
		}
	}
}
