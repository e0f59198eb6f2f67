package replay

import (
	"cmp"
	"fmt"
	"time"

	"github.com/pglockstep/lockstep/outbox"
)

// anchor is what the engine shows a server to find out whether it still has
// the history that the cache was built from.
//
// Invariant 4. Transactions become visible in another order than they stand in
// the server's log: a slow synchronous commit may survive a crash that a
// faster asynchronous one before it does not. So the last cut proves nothing
// about the cuts before it. An event whose number was handed out after a cut
// was read stands behind all of that cut in the log; once such an event has
// been applied, and is in the anchor itself, the cut may go.
type anchor struct {
	cuts []anchorCut // oldest first
	n    int         // transactions in cuts
	max  int
}

type anchorCut struct {
	lastSeq int64 // Header.LastSeq of the cut
	txs     []outbox.Anchor
	partial string // why txs, which may be empty, are not all that the cut has brought; "": they are
}

// restart makes the newest transactions that a load has seen the anchor. Where
// it has seen older ones too, they prove nothing about those: a transaction can be
// older than thousands that were committed before it.
func (a *anchor) restart(lastSeq int64, newest []outbox.Anchor, older bool) {
	c := anchorCut{lastSeq: lastSeq, txs: newest}
	if older {
		c.partial = "nothing has been applied since the load that would show what of it is still there"
	}
	a.cuts, a.n = []anchorCut{c}, len(newest)
}

// add takes an applied cut up, whose highest event is highestSeq, and lets go
// of the cuts that it vouches for.
func (a *anchor) add(lastSeq, highestSeq int64, txs *anchorTxs) {
	kept := a.cuts[:0]
	a.n = 0
	for _, c := range a.cuts {
		if highestSeq > c.lastSeq {
			continue
		}
		kept = append(kept, c)
		a.n += len(c.txs)
	}
	c := anchorCut{lastSeq: lastSeq, txs: txs.list}
	if txs.over || a.n+len(c.txs) > a.max {
		c.txs, c.partial = nil, fmt.Sprintf("the last cuts had more than %d transactions, too many to ask the server for", a.max)
	}
	a.cuts, a.n = append(kept, c), a.n+len(c.txs)
}

// all returns what the server must still have, and why that is not everything
// there is to ask; "": it is.
func (a *anchor) all() (txs []outbox.Anchor, partial string) {
	txs = make([]outbox.Anchor, 0, a.n)
	for _, c := range a.cuts {
		txs = append(txs, c.txs...)
		partial = cmp.Or(partial, c.partial)
	}
	return txs, partial
}

// anchorTxs collects the transactions of one cut while its events pass by.
type anchorTxs struct {
	list []outbox.Anchor
	at   map[uint64]int // index in list by transaction id
	over bool
}

func (t *anchorTxs) event(xid uint64, seq int64, at time.Time, limit int) {
	if t.over {
		return
	}
	if n := len(t.list); n > 0 && t.list[n-1].Xid == xid {
		t.list[n-1].Seq, t.list[n-1].At = seq, at
		return
	}
	if i, ok := t.at[xid]; ok {
		t.list[i].Seq, t.list[i].At = seq, at
		return
	}
	if len(t.list) == limit {
		t.list, t.at, t.over = nil, nil, true
		return
	}
	if t.at == nil {
		t.at = make(map[uint64]int)
	}
	t.at[xid] = len(t.list)
	t.list = append(t.list, outbox.Anchor{Xid: xid, Seq: seq, At: at})
}
