package cache

import (
	"testing"

	"pgregory.net/rapid"
)

// Random operations on a store and on plain maps, everything readable compared after each.
func TestEverythingReadableEqualsPlainMaps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) }
		w := newWorld(draw, rt.Fatalf)
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			w.step()
		}
		w.finish()
	})
}

// The same, with the operations read from a byte string.
func FuzzEverythingReadableEqualsPlainMaps(f *testing.F) {
	f.Add([]byte("lockstep"))
	f.Add([]byte{0, 0, 0, 0, 0, 12, 3, 1, 2, 0, 1, 40, 0, 1, 2, 12, 5, 2, 1, 1, 44, 9, 8, 7})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 2000 {
			t.Skip("longer inputs find nothing that these do not")
		}
		draw := func(_ string, n int) int {
			if len(ops) == 0 {
				return 0
			}
			b := int(ops[0])
			ops = ops[1:]
			return b % n
		}
		w := newWorld(draw, t.Fatalf)
		for len(ops) > 0 {
			w.step()
		}
		w.finish()
	})
}
