package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pglockstep/lockstep/cache"
)

// checkpointing is the loop's side of writing checkpoints.
type checkpointing struct {
	due     time.Time
	running *saving        // the checkpoint that is being written
	unfit   map[int]string // tables with a row that cannot be in one, and why
	last    checkpointedAt // what the last one holds
}

// checkpointedAt tells whether anything has changed since a checkpoint.
type checkpointedAt struct {
	position string
	revision uint64
}

// keepCheckpoint begins to write a checkpoint when one is due. It runs between
// two cuts: the view and the accounts are those of one position. The writing
// holds up neither readers nor the next cut.
func (l *loop) keepCheckpoint(ctx context.Context) {
	if l.cfg.Checkpoints == nil || l.cfg.CheckpointEvery < 0 {
		return
	}
	now := time.Now()
	if l.ckpt.running != nil {
		select {
		case <-l.ckpt.running.done:
			l.collectCheckpoint()
		default:
			return
		}
	}
	if l.ckpt.due.IsZero() { // the first time round
		l.ckpt.due = now.Add(l.cfg.CheckpointEvery)
	}
	if now.Before(l.ckpt.due) {
		return
	}
	l.ckpt.due = now.Add(l.cfg.CheckpointEvery)
	if s := l.pinCheckpoint(); s != nil {
		l.ckpt.running = s
		go s.run(ctx)
	}
}

// collectCheckpoint takes over what the writing has found out.
func (l *loop) collectCheckpoint() {
	s := l.ckpt.running
	l.ckpt.running = nil
	if s.err == nil {
		l.ckpt.last = s.what
	}
	if l.ckpt.unfit == nil {
		l.ckpt.unfit = make(map[int]string)
	}
	maps.Copy(l.ckpt.unfit, s.unfit)
}

// endCheckpoints writes the last checkpoint, after everybody who waited was told that the engine is closed.
func (l *loop) endCheckpoints() {
	if l.cfg.Checkpoints == nil {
		return
	}
	l.thawed()
	if l.ckpt.running != nil {
		<-l.ckpt.running.done // its context has ended
		l.collectCheckpoint()
	}
	if !l.began.IsZero() {
		if s := l.pinCheckpoint(); s != nil {
			s.run(context.Background())
		}
	}
	if err := l.cfg.Checkpoints.Close(); err != nil {
		l.log.Warn("replay: close the place of checkpoints", "error", err)
	}
}

// saving is one checkpoint on its way to disk.
type saving struct {
	l      *loop
	what   checkpointedAt
	view   *cache.View
	h      *head
	tables []savedTable
	kept   bool // one of the tables is kept
	done   chan struct{}

	// Read once done is closed.
	unfit map[int]string
	err   error
}

type savedTable struct {
	i      int // the engine's table
	frozen Frozen
}

// pinCheckpoint holds the present state still. It returns nil where there is
// nothing to write: nothing has changed, or the position is worthless.
func (l *loop) pinCheckpoint() *saving {
	if l.pending != nil {
		return nil
	}
	s := &saving{l: l, view: l.e.store.OpenView(), h: l.headOf(), done: make(chan struct{}), unfit: make(map[int]string)}
	s.what = checkpointedAt{l.pos.String(), s.view.Revision()}
	if s.what == l.ckpt.last {
		s.view.Close()
		return nil
	}
	for i, t := range l.e.tables {
		s.kept = s.kept || l.tables[i].problem == nil
		frozen, why := l.freeze(i)
		if why != "" {
			s.h.Without[t.Name()] = why
			continue
		}
		s.tables = append(s.tables, savedTable{i, frozen})
		s.h.Tables = append(s.h.Tables, headTable{t.Name(), frozen.Shape(), l.tables[i].fingerprint, frozen.Plan(s.view)})
	}
	if _, partial := l.anchor.all(); partial != "" {
		s.fail(errors.New(partial))
		s.view.Close()
		return nil
	}
	return s
}

// freeze prepares a table, or says why it cannot be in the checkpoint.
func (l *loop) freeze(i int) (Frozen, string) {
	if why := l.ckpt.unfit[i]; why != "" {
		return nil, why
	}
	if l.tables[i].problem != nil {
		return nil, "it was not kept: " + l.tables[i].problem.Error()
	}
	frozen, err := l.e.tables[i].Freeze()
	if err != nil {
		return nil, err.Error()
	}
	return frozen, ""
}

// run writes the checkpoint. A table with a row that cannot be in it is left
// out, and the file begun again.
func (s *saving) run(ctx context.Context) {
	defer close(s.done)
	defer s.view.Close()
	for {
		size, bad, err := s.write(ctx)
		if errors.Is(err, ErrUnfit) {
			s.leaveOut(bad, err)
			continue
		}
		if s.err = err; err == nil {
			s.report(size)
		} else if ctx.Err() == nil {
			s.fail(err)
		}
		return
	}
}

// write writes the file. bad is the place of the table that an ErrUnfit is about.
func (s *saving) write(ctx context.Context) (size int64, bad int, err error) {
	if len(s.tables) == 0 {
		return 0, 0, s.none()
	}
	b, err := json.Marshal(s.h)
	if err != nil {
		return 0, 0, fmt.Errorf("encode the head: %w", err)
	}
	w, err := s.l.cfg.Checkpoints.Create(b)
	if err != nil {
		return 0, 0, err
	}
	defer w.Abort()
	for at, t := range s.tables {
		err := t.frozen.Save(s.view, func(row []byte) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return w.Row(at, row)
		})
		if err != nil {
			return 0, at, err
		}
	}
	size, err = w.Commit()
	return size, 0, err
}

// none says that there is no checkpoint. Where none of the tables is kept the last one goes as well: nothing in it would be
// believed, and it may hold what is left out of capture by now.
func (s *saving) none() error {
	if !s.kept && !s.l.cfg.WarmOnly {
		if err := s.l.cfg.Checkpoints.Remove(); err != nil {
			return fmt.Errorf("none of the tables can be in it, and the last one cannot be removed: %w", err)
		}
	}
	return errors.New("none of the tables can be in it")
}

func (s *saving) leaveOut(at int, err error) {
	i := s.tables[at].i
	name := s.l.e.tables[i].Name()
	s.l.log.Warn("replay: a table cannot be in checkpoints", "table", name, "error", err)
	s.unfit[i], s.h.Without[name] = err.Error(), err.Error()
	s.tables = slices.Delete(s.tables, at, at+1)
	s.h.Tables = slices.Delete(s.h.Tables, at, at+1)
}

// report tells that the checkpoint is there.
func (s *saving) report(size int64) {
	e := s.l.e
	e.mu.Lock()
	defer e.mu.Unlock()
	st := &e.sh.st.Checkpoint
	if st.LastError != nil {
		s.l.log.Info("replay: checkpoints are written again")
	}
	st.Written, st.Position, st.Bytes = time.Now(), s.h.Position, size
	st.LastError, st.LastErrorAt = nil, time.Time{}
	st.Without = nil
	for _, name := range slices.Sorted(maps.Keys(s.h.Without)) {
		st.Without = append(st.Without, name+": "+s.h.Without[name])
	}
}

// fail tells why there is none. The log hears of it once in a row.
func (s *saving) fail(err error) {
	e := s.l.e
	e.mu.Lock()
	defer e.mu.Unlock()
	st := &e.sh.st.Checkpoint
	if st.LastError == nil {
		s.l.log.Warn("replay: a checkpoint cannot be written", "error", err)
	}
	st.LastError, st.LastErrorAt = err, time.Now()
}
