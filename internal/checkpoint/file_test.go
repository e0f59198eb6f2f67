package checkpoint_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/pglockstep/lockstep/internal/checkpoint"
)

// content is what a file holds: its head, and rows by table.
type content struct {
	head string
	rows map[int][]string
}

func (c content) String() string { return fmt.Sprintf("%q %x", c.head, c.rows) }

// read reads a whole file. An error means that nothing in it may be believed.
func read(r *checkpoint.Reader) (content, error) {
	c := content{string(r.Head()), map[int][]string{}}
	for {
		table, rows, check, err := r.Next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err == nil {
			err = check()
		}
		if err != nil {
			return c, err
		}
		for len(rows) > 0 {
			n, head := binary.Uvarint(rows)
			if head <= 0 || n > uint64(len(rows)-head) {
				return c, errors.New("a row is longer than its part")
			}
			c.rows[table] = append(c.rows[table], string(rows[head:head+int(n)]))
			rows = rows[head+int(n):]
		}
	}
}

// written makes a file and returns its bytes.
func written(t testing.TB, c content) []byte {
	t.Helper()
	s := checkpoint.New(t.TempDir(), "web-1")
	defer s.Close()
	w, err := s.Create([]byte(c.head))
	if err != nil {
		t.Fatal(err)
	}
	for table := range 3 {
		for _, row := range c.rows[table] {
			if err := w.Row(table, []byte(row)); err != nil {
				t.Fatal(err)
			}
		}
	}
	size, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != size {
		t.Errorf("Commit says %d bytes, the file has %d", size, len(b))
	}
	return b
}

func small() content {
	return content{"a head", map[int][]string{0: {"one", "", "three"}, 2: {"other", "\x00\xff"}}}
}

// large has rows over many frames, and one that is larger than a frame.
func large() content {
	r := rand.New(rand.NewPCG(1, 2))
	c := content{"head", map[int][]string{}}
	for range 3000 {
		b := make([]byte, r.IntN(400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		c.rows[0] = append(c.rows[0], string(b))
	}
	c.rows[1] = []string{string(bytes.Repeat([]byte("x"), 1<<20)), "y"}
	return c
}

func TestWhatIsReadIsWhatWasWritten(t *testing.T) {
	for name, c := range map[string]content{"small": small(), "large": large(), "empty": {head: "", rows: map[int][]string{}}} {
		r, err := checkpoint.Read(written(t, c), "web-1")
		if err != nil {
			t.Fatal(name, err)
		}
		for range 2 { // and again
			got, err := read(r)
			if err != nil || got.String() != c.String() {
				t.Errorf("%s: what is read differs (%v)", name, err)
			}
			if err := r.Rewind(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// refused fails the test if any changed file is read to its end.
func refused(t *testing.T, what string, b []byte) {
	t.Helper()
	r, err := checkpoint.Read(b, "web-1")
	if err == nil {
		_, err = read(r)
	}
	if err == nil {
		t.Errorf("%s: it is read as if it were whole", what)
	}
}

func TestAFileThatIsCutShortAnywhereIsRefused(t *testing.T) {
	b := written(t, small())
	for n := range len(b) {
		refused(t, fmt.Sprintf("the first %d of %d bytes", n, len(b)), b[:n])
	}
	refused(t, "one byte more", append(slices.Clone(b), 0))
	refused(t, "twice", append(slices.Clone(b), b...))
	b = written(t, large())
	for _, n := range []int{len(b) - 1, len(b) / 2, len(b) - 25, 1 << 18} {
		refused(t, fmt.Sprintf("the first %d of %d bytes", n, len(b)), b[:n])
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	b := written(t, small())
	for i := range b {
		for bit := range 8 {
			changed := slices.Clone(b)
			changed[i] ^= 1 << bit
			refused(t, fmt.Sprintf("bit %d of byte %d of %d", bit, i, len(b)), changed)
		}
	}
}

func TestATornFileIsRefused(t *testing.T) {
	b := written(t, large())
	const page = 4096
	for at := 0; at < len(b); at += 16 * page {
		torn := slices.Clone(b)
		clear(torn[at:min(at+page, len(b))]) // a page that never reached the disk
		refused(t, fmt.Sprintf("zeros at %d", at), torn)
	}
	// Two pages that have changed places.
	swapped := slices.Clone(b)
	copy(swapped[page:2*page], b[2*page:3*page])
	copy(swapped[2*page:3*page], b[page:2*page])
	refused(t, "swapped", swapped)
}

// frames finds the frames of a file: where each begins and ends.
func frames(b []byte) (list [][2]int) {
	for at := len("lockstep checkpoint 2\n"); at < len(b); {
		end := at + 9 + int(binary.LittleEndian.Uint32(b[at+1:])) + 8
		list = append(list, [2]int{at, end})
		at = end
	}
	return list
}

func TestFramesThatAreLeftOutRepeatedOrExchangedAreFound(t *testing.T) {
	b := written(t, large())
	fs := frames(b)
	if len(fs) < 5 {
		t.Fatalf("the file has %d frames", len(fs))
	}
	for i, f := range fs {
		refused(t, fmt.Sprintf("without frame %d", i), slices.Concat(b[:f[0]], b[f[1]:]))
		refused(t, fmt.Sprintf("frame %d twice", i), slices.Concat(b[:f[1]], b[f[0]:]))
		if i > 0 {
			e := fs[i-1]
			refused(t, fmt.Sprintf("frames %d and %d exchanged", i-1, i), slices.Concat(b[:e[0]], b[f[0]:f[1]], b[e[0]:e[1]], b[f[1]:]))
		}
	}
	// The head of one file and the rows of another.
	other := written(t, content{"b head", small().rows})
	c := written(t, small())
	h := frames(c)[0]
	refused(t, "another file's rows", slices.Concat(c[:h[1]], other[h[1]:]))
}

func TestAFileOfAnotherNameIsRefused(t *testing.T) {
	if _, err := checkpoint.Read(written(t, small()), "web-2"); err == nil {
		t.Error("the file of web-1 is taken for that of web-2")
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	b := written(f, small())
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte("lockstep checkpoint 2\n"))
	f.Add(written(f, content{"", map[int][]string{}}))
	want := small().String()
	empty := content{"", map[int][]string{}}.String()
	f.Fuzz(func(t *testing.T, b []byte) {
		// As it is, and with every sum made right, so that what is behind them is reached.
		for i, b := range [][]byte{b, checkpoint.Resum(b)} {
			r, err := checkpoint.Read(b, "web-1")
			if err != nil {
				continue
			}
			c, err := read(r)
			if err == nil && i == 0 && c.String() != want && c.String() != empty {
				t.Errorf("a file that nobody has written is believed: %v", c)
			}
		}
	})
}
