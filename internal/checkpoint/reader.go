package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Reader reads one file from its head to its end. It is for one goroutine.
type Reader struct {
	f     source
	size  int64
	head  []byte
	rows  int64 // where the first frame of rows begins
	start chain // the chain there

	br     *bufio.Reader
	at     int64
	chain  chain
	counts []uint64
	ended  bool

	inFrame int // rows in the frame before: about as many will be in the next
}

// source is what a Reader reads: an *os.File.
type source interface {
	io.ReadSeeker
	io.Closer
}

// newReader reads the head of a file of that size, which must be one of that name.
func newReader(f source, size int64, name string) (*Reader, error) {
	r, of, err := readHead(f, size)
	if err == nil && of != name {
		return nil, errors.New("it is of a node named " + strconv.Quote(of))
	}
	return r, err
}

// readHead reads the head of a file of that size, and the name that it is kept under.
func readHead(f source, size int64) (r *Reader, name string, err error) {
	r = &Reader{f: f, size: size, br: bufio.NewReaderSize(f, 1<<16), chain: newChain()}
	var m [len(magic)]byte
	if size < int64(len(m)) {
		return nil, "", corrupt("it is too short")
	}
	if _, err := io.ReadFull(r.br, m[:]); err != nil {
		return nil, "", fmt.Errorf("read: %w", err)
	}
	if string(m[:]) != magic {
		return nil, "", corrupt("it does not begin as a checkpoint of this version does")
	}
	r.at = int64(len(m))
	kind, payload, err := r.frame(nil)
	if err != nil {
		return nil, "", err
	}
	if kind != headFrame || len(payload) < 4 {
		return nil, "", corrupt("it has no head")
	}
	n := binary.LittleEndian.Uint32(payload)
	if int64(n) > int64(len(payload)-4) {
		return nil, "", corrupt("its name is longer than its head")
	}
	r.head, r.rows, r.start = payload[4+n:], r.at, r.chain
	return r, string(payload[4 : 4+n]), nil
}

func (r *Reader) frame(buf []byte) (byte, []byte, error) {
	kind, payload, err := r.chain.readFrame(r.br, r.size-r.at, buf)
	r.at += int64(len(payload)) + frameHead + digestLen
	return kind, payload, err
}

// Head is what Create was given.
func (r *Reader) Head() []byte { return r.head }

// Size is the file's, in bytes.
func (r *Reader) Size() int64 { return r.size }

// Rewind makes Next begin with the first rows again.
func (r *Reader) Rewind() error {
	if _, err := r.f.Seek(r.rows, io.SeekStart); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	r.br.Reset(r.f)
	r.at, r.chain, r.counts, r.ended = r.rows, r.start, nil, false
	return nil
}

// Next returns some more rows, all of one table; nobody else uses them. Rows of
// a frame are returned after its digest was found right. The error is io.EOF
// once the whole file has been, and only then is it known that nothing is missing.
func (r *Reader) Next() (table int, rows [][]byte, err error) {
	if r.ended {
		return 0, nil, io.EOF
	}
	kind, payload, err := r.frame(nil)
	if err != nil {
		return 0, nil, err
	}
	switch kind {
	case rowsFrame:
		return r.split(payload)
	case endFrame:
		if err := r.end(payload); err != nil {
			return 0, nil, err
		}
		r.ended = true
		return 0, nil, io.EOF
	}
	return 0, nil, corrupt("a part of kind %q", kind)
}

// split finds the rows in a frame.
func (r *Reader) split(p []byte) (table int, rows [][]byte, err error) {
	if len(p) < 4 {
		return 0, nil, corrupt("rows without a table")
	}
	t := binary.LittleEndian.Uint32(p)
	if t >= maxTables {
		return 0, nil, corrupt("rows of table %d", t)
	}
	rows = make([][]byte, 0, r.inFrame)
	for p = p[4:]; len(p) > 0; {
		if len(p) < 4 {
			return 0, nil, corrupt("a row without a length")
		}
		n := int64(binary.LittleEndian.Uint32(p))
		if n > int64(len(p)-4) {
			return 0, nil, corrupt("a row that is longer than its part")
		}
		rows, p = append(rows, p[4:4+n:4+n]), p[4+n:]
	}
	for len(r.counts) <= int(t) {
		r.counts = append(r.counts, 0)
	}
	r.counts[t] += uint64(len(rows))
	r.inFrame = len(rows)
	return int(t), rows, nil
}

// end compares the counts.
func (r *Reader) end(p []byte) error {
	if len(p) != 8*len(r.counts) {
		return corrupt("it counts %d tables and has rows of %d", len(p)/8, len(r.counts))
	}
	for i, n := range r.counts {
		if want := binary.LittleEndian.Uint64(p[8*i:]); want != n {
			return corrupt("it has %d rows of table %d, and should have %d", n, i, want)
		}
	}
	if r.at != r.size {
		return corrupt("%d bytes follow its end", r.size-r.at)
	}
	return nil
}

// Close closes the file.
func (r *Reader) Close() error {
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
