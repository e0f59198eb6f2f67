package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// maxTables is far above what a node keeps.
	maxTables = 1 << 20
	// frameSize is what a frame of rows is filled up to. A larger row has one of its own.
	frameSize = 1 << 18
)

// ErrTooLarge means that a row does not fit into a frame.
var ErrTooLarge = errors.New("the row is too large")

// sink is what a Writer writes: an *os.File.
type sink interface {
	io.Writer
	io.Closer
	Sync() error
	Name() string
}

// Writer writes one file. It is for one goroutine, and ends with Commit or Abort.
type Writer struct {
	s     *Store
	f     sink
	bw    *bufio.Writer
	chain chain
	size  int64
	table int
	block []byte
	ended bool
}

// begin writes what stands before the rows.
func (w *Writer) begin(name string, head []byte) error {
	n, err := w.bw.WriteString(magic)
	w.size += int64(n)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	payload := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	payload = append(append(payload, name...), head...)
	return w.frame(headFrame, payload)
}

func (w *Writer) frame(kind byte, payload []byte) error {
	n, err := w.chain.writeFrame(w.bw, kind, payload)
	w.size += n
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// Row adds a row of a table, by the number that it has in the head. The bytes
// are copied.
func (w *Writer) Row(table int, row []byte) error {
	if len(row) > math.MaxInt32 {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(row))
	}
	if len(w.block) > 0 && (table != w.table || len(w.block)+binary.MaxVarintLen32+len(row) > frameSize) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.block) == 0 {
		w.table = table
		w.block = binary.LittleEndian.AppendUint32(w.block, uint32(table))
	}
	w.block = binary.AppendUvarint(w.block, uint64(len(row)))
	w.block = append(w.block, row...)
	return nil
}

func (w *Writer) flush() error {
	if len(w.block) == 0 {
		return nil
	}
	err := w.frame(rowsFrame, w.block)
	w.block = w.block[:0]
	return err
}

// Commit completes the file, and puts it in the place of the one before once it
// is on disk. It returns its size in bytes. After an error nothing has changed.
func (w *Writer) Commit() (size int64, err error) {
	defer w.Abort()
	if err := w.flush(); err != nil {
		return 0, err
	}
	if err := w.frame(endFrame, nil); err != nil {
		return 0, err
	}
	if err := w.bw.Flush(); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	if err := w.f.Sync(); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	w.ended = true
	if err := w.s.replace(w.f); err != nil {
		return 0, err
	}
	return w.size, nil
}

// Abort gives the file up and removes it. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.s.discard(w.f)
}
