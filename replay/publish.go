package replay

import (
	"slices"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// publish makes the cut the state of the engine.
//
// Invariant 1. The rows and the position that they lead to are published in
// one step: the position is part of the version. A cut without events changes
// no row and publishes nothing, but what it has learnt is kept: that nothing
// happened until its snapshot, and which transactions are no longer in flight.
func (l *loop) publish(c *cut, sess Session) {
	l.crowded = l.crowds(c)
	l.rest.counted(c)
	l.pos, l.history, l.identity, l.began = c.position(), c.h.History, sess.Identity(), c.h.Began
	// Transactions below the snapshot's xmin had ended: their events, trimmed
	// or not, are in what has been read.
	l.horizon = min(c.h.Horizon, c.h.Snapshot.Xmin())
	news := l.settle(c)
	l.settleTables(c)
	info := l.info(c)
	published := c.found() || len(c.loaded) > 0 || c.p.warm != nil
	if published {
		c.writer().Publish(info)
		c.w = nil
	}
	l.paced(c, news, sess)
	l.stalls = 0
	if !c.p.full() {
		l.failures = 0
	} else {
		l.pending = nil
	}
	l.report(c, info, published, sess)
	l.thawed()
	if published && l.cfg.OnCut != nil {
		l.cfg.OnCut(info)
	}
	l.e.attested.outlived(c.p.ordinal, !c.h.Relayed)
	if !c.h.Relayed { // else its snapshot may be older than whoever waits
		l.e.mu.Lock()
		l.e.release(c.p.ordinal)
		l.e.mu.Unlock()
	}
	if l.first != nil {
		l.first <- nil
		l.first = nil
	}
}

// position is the tight position that the cut leads to.
func (c *cut) position() outbox.Position {
	if c.p.full() {
		return outbox.Position{}.Tight(c.h.Snapshot, c.h.HighestXid)
	}
	return c.l.pos.Tight(c.h.Snapshot, c.highest)
}

// settle brings the accounts forward. It reports whether numbers were handed
// out that were not known.
func (l *loop) settle(c *cut) (news bool) {
	if c.p.full() {
		l.gaps.restart(c.h.LastSeq)
		l.anchor.restart(c.h.LastSeq, c.h.Newest, c.h.Older)
		l.applied = 0
		for _, a := range c.h.Newest {
			l.applied = max(l.applied, a.Seq)
		}
		l.e.attested.settle(&l.anchor)
		return true
	}
	news = c.gaps.settle(c.h.LastSeq, c.h.Snapshot.Xmin(), c.h.Drawn, c.p.kind == catchUp)
	if c.found() {
		l.anchor.add(c.h.LastSeq, c.lastSeq, &c.txs)
		l.applied = max(l.applied, c.lastSeq)
		l.e.attested.settle(&l.anchor)
	}
	return news
}

// settleTables notes what became of each table that was to be loaded.
func (l *loop) settleTables(c *cut) {
	now := time.Now()
	if c.h.Fingerprints != nil {
		l.catalogue = now.Add(l.cfg.CatalogueEvery)
	}
	for i := range l.tables {
		t, tp := &l.tables[i], &c.p.tables[i]
		problem := c.tables[i].problem
		t.rereadFailed = 0
		switch {
		case tp.broken != nil:
			problem, t.fingerprint = tp.broken, tp.fingerprint
		case tp.reload:
			t.fingerprint = c.h.Fingerprints[i]
		case problem == nil:
			continue
		}
		if problem == nil {
			t.problem, t.retry = nil, 0
			continue
		}
		l.log.Warn("replay: a table is not kept", "table", l.e.tables[i].Name(), "error", problem)
		t.problem = problem
		t.retry = min(max(2*t.retry, l.cfg.RetryMin), l.cfg.RetryMax)
		t.retryAt = now.Add(t.retry)
	}
}

func (l *loop) info(c *cut) CutInfo {
	info := CutInfo{
		Position: l.pos, Snapshot: c.h.Snapshot, History: l.history,
		LastSeq: c.h.LastSeq, Events: int(c.events), Replay: c.p.kind == catchUp, Checkpoint: c.p.warm != nil,
		Began: c.h.Began, At: time.Now(),
	}
	for _, i := range c.loaded {
		info.Loaded = append(info.Loaded, l.e.tables[i].Name())
	}
	if c.p.full() {
		info.Reason = c.p.reason
	}
	return info
}

// report tells the others.
func (l *loop) report(c *cut, info CutInfo, published bool, sess Session) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	st := &l.e.sh.st
	st.History, st.Position, l.e.sh.snapshot = l.history, l.pos, c.h.Snapshot
	st.AppliedSeq, st.HandedOutSeq = l.applied, c.h.LastSeq
	st.LastFetch, st.Gaps = c.h.Began, l.gaps.GapStats
	st.Bell, st.WhyBell = sess.Bell(), sess.WhyBell()
	st.Fetches++
	st.Events += c.events
	st.Passed += c.passed
	st.Skipped += c.skipped
	st.OutOfOrder += c.below
	st.FetchTimes.add(c.took)
	if published {
		st.Cuts++
		st.LastCut = info.At
	}
	if !c.h.Clock.IsZero() {
		for _, tx := range c.txs.list { // none for a load, nor where a cut has more than anchors are kept of
			st.VisibleTimes.add(c.h.Clock.Sub(tx.At) + info.At.Sub(c.h.Began))
		}
	}
	switch c.p.kind {
	case catchUp:
		st.Replays++
		st.EventsReplayed += c.events
		l.log.Info("replay: caught up", "events", c.events, "position", l.pos.String())
	case resync:
		st.Resyncs++
	}
	l.reportTables(c, info.At)
	l.reportThawed(c, info.At)
	if l.e.sh.state != Closed {
		l.e.sh.enter(Live, "", info.At)
	}
}

// reportTables tells what was loaded and what is broken. Caller holds Engine.mu.
func (l *loop) reportTables(c *cut, now time.Time) {
	st := &l.e.sh.st
	for i := range l.tables {
		t, problem := &st.Tables[i], l.tables[i].problem
		if (t.Problem == nil) != (problem == nil) {
			t.Since = now
		}
		t.Problem = problem
		if problem != nil && (c.tables[i].problem != nil || c.p.tables[i].broken != nil) {
			st.LastError, st.LastErrorAt = problem, now
		}
	}
	for reason, group := range c.p.byReason(c.loaded) {
		load := Load{At: now, Took: now.Sub(c.h.Began), Reason: reason, Detail: c.p.detail}
		for _, i := range group {
			st.Tables[i].LoadedAt = now
			load.Tables = append(load.Tables, l.e.tables[i].Name())
			load.Rows += c.tables[i].rows
			if !c.p.full() {
				load.Detail = c.p.tables[i].detail
			}
		}
		if !c.p.full() {
			st.Reloads++
		}
		st.Loads = append(st.Loads, load)
		if st.LoadsFor == nil {
			st.LoadsFor = make(map[Reason]uint64)
		}
		st.LoadsFor[reason]++
		l.log.Info("replay: loaded", "reason", string(reason), "detail", load.Detail, "tables", load.Tables, "rows", load.Rows, "took", load.Took)
	}
	if n := len(st.Loads) - l.cfg.KeepLoads; n > 0 {
		st.Loads = slices.Delete(st.Loads, 0, n)
	}
	// What Reload asked for until this fetch began has been tried.
	for i, ordinal := range l.e.want {
		if ordinal <= c.p.ordinal {
			delete(l.e.want, i)
		}
	}
}
