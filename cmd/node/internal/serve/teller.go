package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"sync"

	"github.com/pglockstep/lockstep"
)

// teller follows a node and fills the window, once for all streams. It begins
// with the first of them: who never streams does not pay for it.
type teller struct {
	tables map[string]int // places by name
	window *window
	begin  sync.Once
	stop   context.CancelFunc
	ctx    context.Context
	done   chan struct{} // closed when it has ended; nil: it never began
	mu     sync.Mutex    // guards done
}

func newTeller(tables *Tables, limit int) *teller {
	t := &teller{tables: make(map[string]int), window: newWindow(limit)}
	for i, d := range tables.list {
		t.tables[d.Name()] = i
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// follow begins to follow the node, unless it has, and returns when it does.
func (t *teller) follow(ctx context.Context, node *lockstep.Node) {
	t.begin.Do(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.done = make(chan struct{})
		go t.run(node, t.done)
	})
	select {
	case <-t.window.begun:
	case <-ctx.Done():
	}
}

// end ends all streams, and waits until nothing runs.
func (t *teller) end() {
	t.stop()
	t.begin.Do(func() {}) // nor will it begin
	t.window.end()
	t.mu.Lock()
	done := t.done
	t.mu.Unlock()
	if done != nil {
		<-done
	}
}

// run ends with the node, or with the teller.
func (t *teller) run(node *lockstep.Node, done chan<- struct{}) {
	defer close(done)
	defer t.window.end()
	var cut toldCut
	large := false
	for tx, err := range node.Changes(t.ctx) {
		if err != nil {
			return
		}
		if tx.Reset {
			t.window.restart(tx.Revision)
			continue
		}
		for i := range tx.Changes {
			if cut.bytes > t.window.limit {
				large, cut = true, toldCut{}
			}
			if !large {
				cut.add(t.tell(&tx, &tx.Changes[i]))
			}
		}
		if !tx.Last {
			continue
		}
		if large {
			t.window.restart(tx.Revision)
		} else {
			cut.rev = tx.Revision
			t.window.add(cut)
		}
		large, cut = false, toldCut{}
	}
}

// tell writes a change as clients are told of it.
func (t *teller) tell(tx *lockstep.Tx, c *lockstep.RowChange) told {
	key, _ := c.Key.(string)
	row, _ := c.New.(json.RawMessage)
	return told{t.tables[c.Table], lines(c.Op.String(), c.Table, key, row, tx.Xid)}
}

// lines are an event's, without its id and its end. The row is nil where it is gone.
func lines(event, table, key string, row json.RawMessage, xid uint64) []byte {
	var b bytes.Buffer
	name, _ := json.Marshal(table) // a string always encodes
	b.WriteString("event: " + event + "\ndata: {\"table\":")
	b.Write(name)
	b.WriteString(`,"key":` + key)
	if xid != 0 {
		b.WriteString(`,"xid":"` + strconv.FormatUint(xid, 10) + `"`)
	}
	if row != nil {
		b.WriteString(`,"row":`)
		if err := json.Compact(&b, row); err != nil {
			b.WriteString("null") // it was valid when it came
		}
	}
	b.WriteString("}\n")
	return b.Bytes()
}
