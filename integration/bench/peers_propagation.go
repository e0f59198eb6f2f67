package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// propagationPeers prepares other ways to have a row in a map soon after its commit.
func (b *bench) propagationPeers(ctx context.Context) ([]way, error) {
	if err := b.accountTables(ctx, accounts, "fillfactor = 50", "polled", "replicated"); err != nil {
		return nil, err
	}
	err := b.exec(ctx, `alter table polled add updated_at timestamptz not null default now();
		create index on polled (updated_at);
		create or replace function touch() returns trigger language plpgsql as $$ begin new.updated_at = clock_timestamp(); return new; end $$;
		create trigger touch before update on polled for each row execute function touch();
		create publication replicated for table replicated`)
	return []way{
		{"logical replication into a map", "replicated", "", b.replicate},
		{"polling updated_at every 100 ms", "polled", "", b.poll},
	}, err
}

// rowsByID is a map as one writes it for oneself.
type rowsByID struct {
	mu   sync.RWMutex
	rows map[int]account
}

func (r *rowsByID) put(a account) {
	r.mu.Lock()
	r.rows[a.ID] = a
	r.mu.Unlock()
}

// poll asks every 100 ms for what has changed since the newest change seen. Like
// all that read so it may overlook what commits late.
func (b *bench) poll(ctx context.Context, c *clock) (func() error, error) {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var since time.Time
	if err := conn.QueryRow(ctx, "select max(updated_at) from polled").Scan(&since); err != nil {
		conn.Release()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	held := &rowsByID{rows: map[int]account{}}
	go func() {
		defer conn.Release()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- nil
				return
			}
			rows, err := conn.Query(ctx, "select id, manager, balance, note, updated_at from polled where updated_at > $1 order by updated_at", since)
			for err == nil && rows.Next() {
				var a account
				if err = rows.Scan(&a.ID, &a.Manager, &a.Balance, &a.Note, &since); err == nil {
					held.put(a)
					c.arrive(a.Balance)
				}
			}
			if err == nil {
				err = rows.Err()
			}
			if err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
	}()
	return func() error {
		cancel()
		return <-done
	}, nil
}

// replicate reads a publication through a temporary slot.
func (b *bench) replicate(ctx context.Context, c *clock) (func() error, error) {
	cfg, err := pgconn.ParseConfig(b.server.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	slot, err := pglogrepl.CreateReplicationSlot(ctx, conn, "bench", "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: true, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	var start pglogrepl.LSN
	if err == nil {
		start, err = pglogrepl.ParseLSN(slot.ConsistentPoint)
	}
	if err == nil {
		err = pglogrepl.StartReplication(ctx, conn, "bench", start, pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names 'replicated'"}})
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	reading, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	r := &replication{conn: conn, held: &rowsByID{rows: map[int]account{}}, clock: c}
	go func() {
		err := r.run(reading)
		if reading.Err() != nil {
			err = nil
		}
		done <- err
	}()
	return func() error {
		cancel()
		return errors.Join(<-done, conn.Close(ctx))
	}, nil
}

// replication puts what is published into a map, at each commit.
type replication struct {
	conn  *pgconn.PgConn
	held  *rowsByID
	clock *clock
	rows  []account // of the transaction that is being read
}

func (r *replication) run(ctx context.Context) error {
	for {
		msg, err := r.conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || len(data.Data) == 0 || data.Data[0] != pglogrepl.XLogDataByteID {
			continue // keepalives: the stream is short
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return err
		}
		change, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			return err
		}
		if err := r.take(change); err != nil {
			return err
		}
	}
}

func (r *replication) take(change pglogrepl.Message) error {
	switch change := change.(type) {
	case *pglogrepl.UpdateMessage:
		a, err := rowOf(change.NewTuple)
		if err != nil {
			return err
		}
		r.rows = append(r.rows, a)
	case *pglogrepl.CommitMessage:
		for _, a := range r.rows {
			r.held.put(a)
			r.clock.arrive(a.Balance)
		}
		r.rows = r.rows[:0]
	}
	return nil
}

func rowOf(t *pglogrepl.TupleData) (a account, err error) {
	if t == nil || len(t.Columns) != 4 {
		return a, fmt.Errorf("a row of another table: %+v", t)
	}
	var errs [3]error
	a.ID, errs[0] = strconv.Atoi(string(t.Columns[0].Data))
	a.Manager, errs[1] = strconv.Atoi(string(t.Columns[1].Data))
	a.Balance, errs[2] = strconv.ParseInt(string(t.Columns[2].Data), 10, 64)
	a.Note = string(t.Columns[3].Data)
	return a, errors.Join(errs[:]...)
}
