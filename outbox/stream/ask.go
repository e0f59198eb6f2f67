package stream

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// A node asks the relay that it follows for what it would otherwise need a connection to Postgres for, again and
// again: what the server's clock says, and to write its row in the register. Question and answer are plain messages
// of NATS, outside of the stream:
//
//	magic, run, nonce, uptime, kind, body, MAC of all before
//	magic, run, nonce, body, MAC of all before
//
// The numbers are fixed and big-endian. The nonce makes an answer one to its question. The uptime is that of the
// newest batch that the node has heard: a question that somebody has kept is not taken again later.
const (
	questionMagic = "LSQ1"
	answerMagic   = "LSA1"
	nonceLen      = 16
	questionLen   = len(questionMagic) + 8 + nonceLen + 8 + 1
	answerLen     = len(answerMagic) + 8 + nonceLen
	maxQuestion   = 64 << 10
)

// What is asked for.
const (
	askClock = 'c' // the answer: clock, took and uptime, as in a batch, 8 bytes each
	askRow   = 'r' // the body: an outbox.NodeRow in JSON; the answer: its beat, 8 bytes
)

// asks is the subject of the questions about a stream.
func asks(stream string) string { return stream + ".asks" }

// question is one, opened.
type question struct {
	run    int64
	nonce  []byte
	uptime time.Duration
	kind   byte
	body   []byte
}

func (q *question) seal(key []byte) []byte {
	b := make([]byte, 0, questionLen+len(q.body)+macLen)
	b = append(b, questionMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(q.run))
	b = append(b, q.nonce...)
	b = binary.BigEndian.AppendUint64(b, uint64(q.uptime))
	b = append(append(b, q.kind), q.body...)
	return append(b, sum(key, b)...)
}

// openQuestion reads a question to a run.
func openQuestion(message []byte, run *outbox.Run) (question, error) {
	if len(message) < questionLen+macLen || len(message) > maxQuestion || !bytes.HasPrefix(message, []byte(questionMagic)) {
		return question{}, errShape
	}
	signed, mac := message[:len(message)-macLen], message[len(message)-macLen:]
	q := question{run: int64(binary.BigEndian.Uint64(signed[4:])), nonce: signed[12:28], uptime: time.Duration(binary.BigEndian.Uint64(signed[28:])), kind: signed[36], body: signed[questionLen:]}
	if q.run != run.ID {
		return question{}, errOtherRun
	}
	return q, verify(run.Key, signed, mac)
}

var (
	errOtherRun = errors.New("stream: it is of another run")
	errNoAnswer = errors.New("stream: the relay cannot say")
)

// answer is what is sent back; a body that is empty says that there is no answer.
func (q *question) answer(key, body []byte) []byte {
	b := make([]byte, 0, answerLen+len(body)+macLen)
	b = append(b, answerMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(q.run))
	b = append(append(b, q.nonce...), body...)
	return append(b, sum(key, b)...)
}

// openAnswer returns the body of the answer, which has so many bytes.
func (q *question) openAnswer(message, key []byte, size int) ([]byte, error) {
	head := q.answer(key, nil)[:answerLen]
	if len(message) < answerLen+macLen || !bytes.HasPrefix(message, head) {
		return nil, errShape
	}
	signed := message[:len(message)-macLen]
	if err := verify(key, signed, message[len(signed):]); err != nil {
		return nil, err
	}
	switch body := signed[answerLen:]; len(body) {
	case size:
		return body, nil
	case 0:
		return nil, errNoAnswer
	default:
		return nil, errShape
	}
}

// line is how a session, and whoever works beside it, asks the relay.
type line struct {
	feed     *feed
	run      outbox.Run
	uptime   atomic.Int64      // of the newest batch that has come
	heard    chan struct{}     // closed when the first has
	answered chan *clockAnswer // what askBeside has brought; nil: nothing
}

func newLine(f *feed, run outbox.Run) *line {
	return &line{feed: f, run: run, heard: make(chan struct{}), answered: make(chan *clockAnswer, 1)}
}

// hear notes a new batch. It belongs to the session's goroutine.
func (l *line) hear(uptime time.Duration) {
	l.uptime.Store(int64(uptime))
	select {
	case <-l.heard:
	default:
		close(l.heard)
	}
}

// ask sends a question and waits for the answer's body, which has so many bytes.
func (l *line) ask(ctx context.Context, kind byte, body []byte, size int) ([]byte, error) {
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	select {
	case <-l.heard: // else the question would be taken for an old one
	case <-asking.Done():
		return nil, fmt.Errorf("stream: ask the relay: no batch of it has come: %w", context.Cause(asking))
	}
	nc := l.feed.nc.Load()
	if nc == nil {
		return nil, errNotConnected
	}
	q := question{run: l.run.ID, nonce: make([]byte, nonceLen), uptime: time.Duration(l.uptime.Load()), kind: kind, body: body}
	_, _ = rand.Read(q.nonce) // it never fails
	msg, err := nc.RequestWithContext(asking, asks(l.feed.cfg.Stream), q.seal(l.run.Key))
	if err != nil {
		return nil, fmt.Errorf("stream: ask the relay: %w", err)
	}
	return q.openAnswer(msg.Data, l.run.Key, size)
}

// clockAnswer is what a relay has said of the server's clock, to a question that was sent at t0 and answered at now.
type clockAnswer struct {
	t0, now, clock time.Time
	took, uptime   time.Duration
}

// clock asks what the server's clock says.
func (l *line) clock(ctx context.Context) (*clockAnswer, error) {
	t0 := time.Now()
	b, err := l.ask(ctx, askClock, nil, 3*8)
	if err != nil {
		return nil, err
	}
	a := readClock(b)
	a.t0, a.now = t0, time.Now()
	return &a, nil
}

// write makes the body of an answer, which readClock reads.
func (a *clockAnswer) write() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(a.clock.UnixMicro()))
	b = binary.BigEndian.AppendUint64(b, uint64(a.took))
	return binary.BigEndian.AppendUint64(b, uint64(a.uptime))
}

func readClock(body []byte) clockAnswer {
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(body[8*i:])) }
	return clockAnswer{clock: time.UnixMicro(at(0)), took: time.Duration(at(1)), uptime: time.Duration(at(2))}
}

// askBeside asks for the clock and does not wait; one question at a time.
func (l *line) askBeside() {
	l.feed.beside.Go(func() {
		a, err := l.clock(l.feed.ctx)
		if err != nil {
			l.feed.cfg.Logger.Debug("the relay does not say what the clock of Postgres says", "error", err)
		}
		l.answered <- a
	})
}

// Enroll implements replay.Registrar: the relay writes the row, on its own connection.
func (s *source) Enroll(ctx context.Context, row outbox.NodeRow) (time.Time, error) {
	l := s.line.Load()
	if l == nil {
		return time.Time{}, errAway
	}
	body, err := json.Marshal(row)
	if err != nil {
		return time.Time{}, fmt.Errorf("stream: write the row of the node: %w", err)
	}
	b, err := l.ask(ctx, askRow, body, 8)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b))), nil
}
