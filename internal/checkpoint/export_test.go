package checkpoint

import (
	"bytes"
	"encoding/binary"
)

// Create replaces how a store makes its temporary files.
func (s *Store) SetCreate(f func(dir, pattern string) (Sink, error)) {
	s.create = func(dir, pattern string) (sink, error) { return f(dir, pattern) }
}

type Sink = sink

// Read reads a file that is in memory.
func Read(b []byte, name string) (*Reader, error) {
	return newReader(memory{bytes.NewReader(b)}, int64(len(b)), name)
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// Resum gives every frame that can be found the sums that it should have.
func Resum(b []byte) []byte {
	b = bytes.Clone(b)
	c := newChain()
	for at := len(magic); at+frameHead <= len(b); {
		n := min(int(binary.LittleEndian.Uint32(b[at+1:])), len(b)-at-frameHead-digestLen)
		if n < 0 {
			break
		}
		h := c.head(b[at], uint32(n))
		copy(b[at:], h[:])
		at += frameHead
		c.add(h, b[at:at+n])
		copy(b[at+n:], c[:])
		at += n + digestLen
	}
	return b
}
