package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Reader reads one file from its head to its end. It is for one goroutine, but for the checks that Next returns.
type Reader struct {
	f     source
	size  int64
	head  []byte
	rows  int64 // where the first frame of rows begins
	start chain // the digest there

	br     *bufio.Reader
	at     int64
	before chain // the digest of the frame before
	ended  bool
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
	r = &Reader{f: f, size: size, br: bufio.NewReaderSize(f, 1<<12), before: newChain()}
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
	fr, err := r.frame()
	if err == nil {
		err = fr.check()
	}
	if err != nil {
		return nil, "", err
	}
	payload := fr.payload
	if fr.kind() != headFrame || len(payload) < 4 {
		return nil, "", corrupt("it has no head")
	}
	n := binary.LittleEndian.Uint32(payload)
	if int64(n) > int64(len(payload)-4) {
		return nil, "", corrupt("its name is longer than its head")
	}
	r.head, r.rows, r.start = payload[4+n:], r.at, r.before
	return r, string(payload[4 : 4+n]), nil
}

// frame reads the next frame.
func (r *Reader) frame() (frame, error) {
	f, err := readFrame(r.br, r.size-r.at, r.before)
	r.at += int64(len(f.payload)) + frameHead + digestLen
	r.before = f.digest
	return f, err
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
	r.at, r.before, r.ended = r.rows, r.start, false
	return nil
}

// Next returns some more rows of one table, each behind its length as a uvarint. Nobody else uses them. They
// are not to be believed, and may be no rows at all, before check has returned nil, which any goroutine may call. The error is io.EOF once
// the whole file was read: if every check has returned nil as well, nothing is missing.
func (r *Reader) Next() (table int, rows []byte, check func() error, err error) {
	if r.ended {
		return 0, nil, nil, io.EOF
	}
	f, err := r.frame()
	if err != nil {
		return 0, nil, nil, err
	}
	switch f.kind() {
	case rowsFrame:
		if len(f.payload) < 4 {
			return 0, nil, nil, corrupt("rows without a table")
		}
		t := binary.LittleEndian.Uint32(f.payload)
		if t >= maxTables {
			return 0, nil, nil, corrupt("rows of table %d", t)
		}
		return int(t), f.payload[4:], f.check, nil
	case endFrame:
		if err := f.check(); err != nil {
			return 0, nil, nil, err
		}
		if r.at != r.size {
			return 0, nil, nil, corrupt("%d bytes follow its end", r.size-r.at)
		}
		r.ended = true
		return 0, nil, nil, io.EOF
	}
	return 0, nil, nil, corrupt("a part of kind %q", f.kind())
}

// Close closes the file.
func (r *Reader) Close() error {
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
