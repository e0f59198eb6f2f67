package replay

import (
	"slices"

	"github.com/pglockstep/lockstep/outbox"
)

// kind is what a fetch is for.
type kind int

const (
	follow    kind = iota
	catchUp        // the first fetch of a session that goes on from the position
	firstLoad      // nothing is loaded yet
	resync         // everything is loaded again
)

// cause is why the engine fetches now.
type cause int

const (
	byBeat  cause = iota // the longest pause is over
	byRing               // the bell rang
	byLook               // numbers are not accounted for, or a token is waited for
	byQuick              // the bell is suspected of not ringing
	bySelf               // the bell rests, or has not come back
	byAsk                // somebody waits for a fetch that begins now
)

// plan is what the next cut is to bring. It grows from attempt to attempt
// until the cut can be published.
type plan struct {
	kind      kind
	cause     cause
	reason    Reason // of a load of everything
	detail    string
	tables    []tablePlan
	draw      bool
	wantsDraw bool // whether or not this fetch draws
	maxLoads  int  // of Config, where the plan loads everything
	catalogue bool
	ordinal   uint64       // of the last attempt
	warm      *warm        // the cut begins with the rows of a checkpoint
	doubt     *resyncError // why the checkpoint's position is worthless: this load takes its place
	rung      bool         // a ring came before the last attempt began
	now       bool         // somebody waits for the attempt, or the server is to show that it is still the same
	sharing   *sharing     // whom the cut is shared with, until they were told
}

type tablePlan struct {
	reload bool
	reread bool
	reason Reason // of reload
	detail string
	// broken says that the table's rows could not be read when it was loaded
	// under this fingerprint: the cut goes on without it.
	broken      error
	fingerprint string
}

// full reports whether the cut replaces everything.
func (p *plan) full() bool { return p.kind == firstLoad || p.kind == resync }

// load makes the table part of what is loaded. The first reason given stays.
func (p *plan) load(table int, reason Reason, detail string) {
	if t := &p.tables[table]; !t.reload && t.broken == nil {
		t.reload, t.reason, t.detail = true, reason, detail
	}
}

// request puts the plan into the source's words.
func (p *plan) request(from outbox.Position) outbox.Request {
	req := outbox.Request{From: from, DrawXid: p.draw, WantXid: p.wantsDraw, Catalogue: p.catalogue, Now: p.now}
	if p.full() {
		req.From, req.MaxLoads = outbox.Position{}, p.maxLoads
	}
	for i, t := range p.tables {
		switch {
		case t.reload:
			req.Reload = append(req.Reload, i)
		case t.reread:
			req.Reread = append(req.Reread, i)
		}
	}
	return req
}

// begin starts an attempt: it takes over what Reload has asked for until now,
// and gives the attempt the ordinal by which waiters know it. Whoever comes
// later waits for a later fetch.
func (e *Engine) begin(p *plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for table := range e.want {
		p.load(table, Requested, "")
	}
	e.begun++
	p.ordinal, p.now = e.begun, len(e.waiters) > 0 || e.attested.waits()
	select {
	case <-e.poke:
	default:
	}
}

// byReason groups the tables that the plan loads.
func (p *plan) byReason(loaded []int) map[Reason][]int {
	groups := make(map[Reason][]int)
	for _, i := range slices.Sorted(slices.Values(loaded)) {
		reason := p.tables[i].reason
		if p.full() {
			reason = p.reason
		}
		groups[reason] = append(groups[reason], i)
	}
	return groups
}
