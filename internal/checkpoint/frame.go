package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	magic     = "lockstep checkpoint 1\n"
	frameHead = 1 + 4 + 4
	digestLen = 16
)

// The kinds of frames.
const (
	headFrame = 'H' // length of the name (4), name, what the writer calls its head
	rowsFrame = 'R' // table (4), then rows: length (4), bytes
	endFrame  = 'E' // for each table the number of its rows (8)
)

// ErrCorrupt is wrapped by every error about what stands in the file.
var ErrCorrupt = errors.New("the file is not what was written")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chain is the digest of all frames so far.
type chain [digestLen]byte

func newChain() chain {
	sum := sha256.Sum256([]byte(magic))
	return chain(sum[:digestLen])
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
	d := sha256.New()
	d.Write(c[:])
	d.Write(head[:])
	d.Write(payload)
	copy(c[:], d.Sum(nil))
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

// readFrame reads the next frame, of which no more than left bytes can be
// there, and returns its payload in buf where that is large enough.
func (c *chain) readFrame(r io.Reader, left int64, buf []byte) (kind byte, payload []byte, err error) {
	var h [frameHead]byte
	if left < frameHead+digestLen {
		return 0, nil, corrupt("it ends without its last part")
	}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	length := binary.LittleEndian.Uint32(h[1:])
	if h != c.head(h[0], length) {
		return 0, nil, corrupt("the sum of a part's head differs")
	}
	if int64(length) > left-frameHead-digestLen {
		return 0, nil, corrupt("it ends within a part")
	}
	if cap(buf) < int(length) {
		buf = make([]byte, length)
	}
	payload = buf[:length]
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	var digest chain
	if _, err := io.ReadFull(r, digest[:]); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	c.add(h, payload)
	if digest != *c {
		return 0, nil, corrupt("the digest of a part differs")
	}
	return h[0], payload, nil
}
