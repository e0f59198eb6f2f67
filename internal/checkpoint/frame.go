package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	magic     = "lockstep checkpoint 2\n"
	frameHead = 1 + 4 + 4
	digestLen = 8
)

// The kinds of frames.
const (
	headFrame = 'H' // length of the name (4), name, what the writer calls its head
	rowsFrame = 'R' // table (4), then rows: length (uvarint), bytes
	endFrame  = 'E'
)

// ErrCorrupt is wrapped by every error about what stands in the file.
var ErrCorrupt = errors.New("the file is not what was written")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chain is the digest of all frames so far: their CRC-32C and their CRC-32. Remainders of a division by two polynomials without a common factor are
// as good as the one by their product, a CRC of 64 bits: whatever is damaged within any 64 bits in a row is found for certain, and
// anything else but for one case in 2^64. Processors have instructions for both; SHA-256 takes eight times as long.
type chain [digestLen]byte

func newChain() (c chain) {
	c.sum([]byte(magic))
	return c
}

func (c *chain) sum(parts ...[]byte) {
	var a, b uint32
	for _, p := range parts {
		a, b = crc32.Update(a, castagnoli, p), crc32.Update(b, crc32.IEEETable, p)
	}
	binary.LittleEndian.PutUint32(c[:], a)
	binary.LittleEndian.PutUint32(c[4:], b)
}

// head is a frame's head, whose sum also depends on what came before.
func (c *chain) head(kind byte, length uint32) [frameHead]byte {
	var h [frameHead]byte
	h[0] = kind
	binary.LittleEndian.PutUint32(h[1:], length)
	sum := crc32.Update(crc32.Checksum(h[:5], castagnoli), castagnoli, c[:])
	binary.LittleEndian.PutUint32(h[5:], sum)
	return h
}

// add takes up a frame.
func (c *chain) add(head [frameHead]byte, payload []byte) {
	before := *c
	c.sum(before[:], head[:], payload)
}

// writeFrame writes one frame.
func (c *chain) writeFrame(w io.Writer, kind byte, payload []byte) (int64, error) {
	h := c.head(kind, uint32(len(payload)))
	c.add(h, payload)
	var n int64
	for _, part := range [][]byte{h[:], payload, c[:]} {
		m, err := w.Write(part)
		n += int64(m)
		if err != nil {
			return n, err //nolint:wrapcheck // by the caller
		}
	}
	return n, nil
}

// frame is a frame as it was read: what is in it is not known to be what was written before it was checked.
type frame struct {
	before  chain // the digest that the frame before it has
	head    [frameHead]byte
	payload []byte
	digest  chain
}

func (f *frame) kind() byte { return f.head[0] }

// check compares the digest. A frame that is right after a digest that is right makes its own right: where every frame of a
// file was checked, in whatever order, and the first one begins the chain, all of them are what was written.
func (f *frame) check() error {
	c := f.before
	c.add(f.head, f.payload)
	if c != f.digest {
		return corrupt("the digest of a part differs")
	}
	return nil
}

// readFrame reads the frame that follows one with the digest before, of which no more than left bytes can be there.
func readFrame(r io.Reader, left int64, before chain) (frame, error) {
	f := frame{before: before}
	if left < frameHead+digestLen {
		return f, corrupt("it ends without its last part")
	}
	if _, err := io.ReadFull(r, f.head[:]); err != nil {
		return f, fmt.Errorf("read: %w", err)
	}
	length := binary.LittleEndian.Uint32(f.head[1:])
	if f.head != before.head(f.head[0], length) {
		return f, corrupt("the sum of a part's head differs")
	}
	if int64(length) > left-frameHead-digestLen {
		return f, corrupt("it ends within a part")
	}
	f.payload = make([]byte, length)
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return f, fmt.Errorf("read: %w", err)
	}
	if _, err := io.ReadFull(r, f.digest[:]); err != nil {
		return f, fmt.Errorf("read: %w", err)
	}
	return f, nil
}
