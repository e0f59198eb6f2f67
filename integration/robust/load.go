//go:build unix

package robust

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pause"
)

// readServer reads what the tables hold, what the witness saw, and the log, in one snapshot.
func (w *world) readServer(ctx context.Context, h *History) error {
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			for _, read := range []func(context.Context, pgx.Tx, *History) error{readTables, readWitness, readLog} {
				if err := read(ctx, tx, h); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func readTables(ctx context.Context, tx pgx.Tx, h *History) error {
	for _, name := range tables {
		if name == bulkTable {
			var n int
			if err := tx.QueryRow(ctx, "select count(*) from bulk").Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				h.Tables = append(h.Tables, RowState{bulkTable, 0, bulkState(n)})
			}
			continue
		}
		rows, _ := tx.Query(ctx, "select id, region, v, body, stamp from "+pgx.Identifier{name}.Sanitize()+" order by id") // CollectRows has its error
		list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Row])
		if err != nil {
			return err
		}
		for _, r := range list {
			h.Tables = append(h.Tables, RowState{name, r.ID, r.text()})
		}
	}
	return nil
}

func readWitness(ctx context.Context, tx pgx.Tx, h *History) error {
	rows, err := tx.Query(ctx, "select n, xid, tbl, id, coalesce(state, '') from witness order by n")
	if err != nil {
		return err
	}
	var c Change
	var id *int
	_, err = pgx.ForEachRow(rows, []any{&c.N, &c.Xid, &c.Table, &id, &c.State}, func() error {
		c.ID, c.All = 0, id == nil
		if id != nil {
			c.ID = *id
		}
		h.Witness = append(h.Witness, c)
		return nil
	})
	return err
}

func readLog(ctx context.Context, tx pgx.Tx, h *History) error {
	rows, err := tx.Query(ctx, "select seq, xid, table_name, op, id, coalesce(state, ''), gone from log order by seq, part")
	if err != nil {
		return err
	}
	var e Event
	var id *int
	_, err = pgx.ForEachRow(rows, []any{&e.Seq, &e.Xid, &e.Table, &e.Op, &id, &e.State, &e.Gone}, func() error {
		e.ID, e.Keyed = 0, id != nil
		if id != nil {
			e.ID = *id
		}
		h.Events = append(h.Events, e)
		return nil
	})
	return err
}

// keep writes what the server knew beside what the nodes recorded.
func (h *History) keep(path string) error {
	text, err := json.Marshal(map[string]any{"Witness": h.Witness, "Events": h.Events, "Crashes": h.Crashes, "Tables": h.Tables, "Left": h.Left})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// left asks what the nodes left on the server. A backend takes a moment to notice that its client has gone.
func (w *world) left(ctx context.Context, h *History) error {
	const ask = `
		select 'session ' || application_name || ' ' || state from pg_stat_activity where application_name like 'lockstep%'
		union all select 'slot ' || slot_name from pg_replication_slots
		union all select 'advisory lock ' || objid from pg_locks where locktype = 'advisory'
		union all select 'prepared transaction ' || gid from pg_prepared_xacts`
	return w.on(ctx, w.dsn, func(conn *pgx.Conn) error {
		for end := time.Now().Add(10 * time.Second); ; {
			rows, _ := conn.Query(ctx, ask) // CollectRows has its error
			found, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			h.Left = found
			if len(found) == 0 || time.Now().After(end) {
				return nil
			}
			if !pause.For(ctx, 50*time.Millisecond) {
				return ctx.Err()
			}
		}
	})
}

// load reads the histories of the writers and of every life of every node.
func (w *world) load(h *History) error {
	err := readRecords(filepath.Join(w.dir, "world.ndjson"), func(r record) {
		switch {
		case r.Write != nil:
			h.Writes = append(h.Writes, r.Write)
		case r.Fault != nil:
			h.Faults = append(h.Faults, r.Fault)
		}
	})
	if err != nil {
		return err
	}
	for _, p := range w.nodes {
		for _, name := range append(slices.Clone(p.lived), p.name) {
			n, err := readNode(filepath.Join(w.dir, name+".ndjson"))
			if err != nil {
				return err
			}
			n.Name, n.Killed = name, slices.Contains(p.lived, name)
			h.Nodes = append(h.Nodes, n)
		}
	}
	return nil
}

// readNode reads what one process recorded.
func readNode(path string) (*NodeHistory, error) {
	n := &NodeHistory{}
	ops := map[string]*Op{}
	err := readRecords(path, func(r record) {
		switch {
		case r.Cut != nil:
			n.Cuts = append(n.Cuts, r.Cut)
		case r.Txn != nil:
			n.Txns = append(n.Txns, r.Txn)
		case r.Claim != nil:
			n.Claims = append(n.Claims, r.Claim)
		case r.Read != nil:
			n.Reads = append(n.Reads, r.Read)
		case r.Get != nil:
			n.Gets = append(n.Gets, r.Get)
		case r.Op != nil:
			// It comes before the call and after it; what came back says more.
			id := fmt.Sprintf("%d.%d", r.Op.Client, r.Op.N)
			if before, ok := ops[id]; ok {
				*before = *r.Op
				return
			}
			ops[id] = r.Op
			n.Ops = append(n.Ops, r.Op)
		case r.Final != nil:
			n.Final = r.Final
		}
	})
	return n, err
}

// short is the name without its schema, as the run's tables are told here.
func short(table string) string { return strings.TrimPrefix(table, "public.") }
