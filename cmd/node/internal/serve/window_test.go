package serve

import (
	"math/rand/v2"
	"testing"
)

func TestTheWindowKeepsItsBoundAndHasNoHole(t *testing.T) {
	for range 200 {
		w := newWindow(5000)
		w.restart(10)
		rev, readers := uint64(10), map[*uint64]bool{}
		for range 300 {
			rev += 1 + rand.Uint64N(3)
			switch {
			case rand.IntN(50) == 0:
				w.restart(rev)
			default:
				c := toldCut{rev: rev}
				for range rand.IntN(5) {
					c.add(told{lines: make([]byte, rand.IntN(1500))})
				}
				w.add(c)
			}
			if w.size() > w.limit {
				t.Fatalf("%d bytes", w.size())
			}
			at := rev
			readers[&at] = true
			for r := range readers {
				if rand.IntN(10) > 0 {
					continue
				}
				// Whoever reads on gets every cut above its place, or is told that it cannot.
				cut, found, _ := w.after(*r)
				switch {
				case *r < w.floor && found != gone, *r >= w.floor && found == gone:
					t.Fatalf("at %d of %d: %v", *r, w.floor, found)
				case found == gone:
					delete(readers, r)
				case found == nothing && *r != rev:
					for _, k := range w.kept {
						if k.rev > *r {
							t.Fatalf("at %d: nothing, and there is %d", *r, k.rev)
						}
					}
				case found == someCut:
					for _, k := range w.kept {
						if k.rev > *r && k.rev < cut.rev {
							t.Fatalf("at %d: %d before %d", *r, cut.rev, k.rev)
						}
					}
					*r = cut.rev
				}
			}
		}
	}
}
