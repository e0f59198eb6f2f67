package replay

import (
	"context"
	"slices"
	"sync"
	"time"
)

// maxAttested is how many rows an engine remembers as proofs, the newest ones.
const maxAttested = 4096

// maxTold is how many of them may wait to become proofs.
const maxTold = 16

// attested are the proofs of what the anchor's transactions cannot prove: rows
// that this node has written after a cut. What a server has kept of its log is a
// beginning of it, so where such a row is still there, all that could be seen
// before it was written is there too.
type attested struct {
	mu    sync.Mutex
	since uint64      // counts the cuts for which proofs were looked for, and the sessions
	none  bool        // no proof is needed now
	times []time.Time // by which the rows are known again
	// told are rows that prove something only if the session on which the cuts were
	// read has outlived them: one that was written after a crash, on another
	// connection, says nothing of what was there before.
	told []told
}

type told struct {
	at       time.Time
	after    uint64 // the ordinal of the earliest fetch that shows that the session lives
	sameLife bool   // written in the life of the server that the session follows: any fetch shows that its anchor was found
}

// Attesting begins an Attest: what it returns goes there, with a row that is
// written after this call.
func (e *Engine) Attesting() uint64 {
	a := &e.attested
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.since
}

// Attest tells the engine of a row of its node's own, which carries the time
// at, and was written and committed since Attesting returned since. Session.Beat
// must bring the time of the row as it is when a session begins. The row counts once a
// fetch has completed that began after the call, in the session that there was then. That fetch must have asked the server,
// unless the row is known to have been written in the life of the server that the session follows (sameLife; see Registrar).
//
// It matters where nothing was applied since a load that has seen more
// transactions than the server can be asked for: on a quiet database a new
// session would have to load everything again.
func (e *Engine) Attest(since uint64, at time.Time, sameLife bool) {
	e.mu.Lock()
	after := e.begun + 1
	e.mu.Unlock()
	a := &e.attested
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.none || since != a.since {
		return
	}
	if len(a.told) == maxTold {
		a.told = slices.Delete(a.told, 0, 1)
	}
	a.told = append(a.told, told{at, after, sameLife})
}

// outlived makes proofs of the rows that were told of before a fetch of that ordinal
// began, which is complete, and may have asked the server.
func (a *attested) outlived(ordinal uint64, asked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = slices.DeleteFunc(a.told, func(t told) bool {
		if t.after > ordinal || !t.sameLife && !asked {
			return false
		}
		if len(a.times) == maxAttested {
			a.times = slices.Delete(a.times, 0, 1)
		}
		a.times = append(a.times, t.at)
		return true
	})
}

// ended forgets the rows that no fetch of the session has outlived, and those that are still being written.
func (a *attested) ended() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = nil
	a.since++
}

// waits reports whether a fetch is needed that asks the server.
func (a *attested) waits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.told, func(t told) bool { return !t.sameLife })
}

// settle looks at the anchor after a cut: one of which not everything can be
// asked for needs another proof than those before it.
func (a *attested) settle(anchor *anchor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch _, partial := anchor.all(); {
	case partial == "":
		a.none, a.times, a.told = true, nil, nil
	case anchor.cuts[len(anchor.cuts)-1].partial != "":
		a.none, a.times, a.told = false, nil, nil
		a.since++
	}
}

func (a *attested) has(at time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.times, at.Equal)
}

func (a *attested) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.times) == 0
}

// attest looks for the node's row where the anchor is partial. It reports whether
// that proves what the anchor's partial cuts have brought.
func (l *loop) attest(ctx context.Context, sess Session) (bool, error) {
	if l.e.attested.empty() {
		return false, nil
	}
	var at time.Time
	err := l.guard(ctx, l.cfg.FetchTimeout, func(ctx context.Context) (err error) {
		at, err = sess.Beat(ctx)
		return err
	})
	if err != nil {
		return false, l.failed("look for the node's own row", err)
	}
	return l.e.attested.has(at), nil
}
