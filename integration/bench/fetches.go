package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// ignored is a sink that reads rows and keeps nothing.
type ignored struct{ h outbox.Header }

func (s *ignored) Begin(h *outbox.Header) error { s.h = *h; return nil }

func (*ignored) Problem(_ int, err error) error { return err }

func (*ignored) Event(_ int, _ *outbox.Event, row pgx.CollectableRow) error {
	_, err := byHand(row)
	return err
}

func (*ignored) Load(_ int, row pgx.CollectableRow) error {
	_, err := byHand(row)
	return err
}

func (*ignored) Reread(int, pgx.CollectableRow, pgx.CollectableRow) error { return nil }

// fetches: what a fetch of one transaction takes, by the size of the outbox.
func fetches(ctx context.Context, b *bench) error {
	sizes := []int{1000}
	if !b.quick {
		for n := 10_000; n < b.outbox; n *= 10 {
			sizes = append(sizes, n)
		}
	}
	sizes = append(sizes, b.outbox)
	sessions, at := map[int]*outbox.Session{}, map[int]outbox.Position{}
	for _, n := range sizes {
		s, pos, err := b.filledOutbox(ctx, b.pool, n)
		if err != nil {
			return err
		}
		defer s.Close()
		sessions[n], at[n] = s, pos
	}
	took := map[int]series{}
	for range b.rounds {
		of := map[int][]time.Duration{}
		for range 10 * b.commits { // one of each in turn
			for _, n := range sizes {
				began := time.Now()
				if err := sessions[n].Fetch(ctx, outbox.Request{From: at[n]}, &ignored{}); err != nil {
					return err
				}
				of[n] = append(of[n], time.Since(began))
			}
		}
		for n, list := range of {
			took[n] = append(took[n], ms(medianOf(list)))
		}
	}
	b.ratio(fmt.Sprintf("a fetch of one transaction, %s rows in the outbox / 1,000 rows", grouped(int64(b.outbox))), "the median time of a fetch that brings one event, with so many rows in the outbox",
		took[b.outbox].over(took[1000]), atMost(1.15))
	for _, n := range sizes {
		b.value("a fetch of one transaction, "+grouped(int64(n))+" rows in the outbox", "ms", "the median of fetches that bring one event", took[n], nil)
		b.place("a fetch against the size of the outbox", "one transaction", float64(n), "ms", took[n])
	}
	return nil
}

// filledOutbox makes an outbox of n rows in a schema of its own, and returns a session that
// lacks its last transaction. The session connects as the pool does.
func (b *bench) filledOutbox(ctx context.Context, pool *pgxpool.Pool, n int) (*outbox.Session, outbox.Position, error) {
	schema, table := fmt.Sprintf("lockstep_%d", n), fmt.Sprintf("fetched_%d", n)
	var none outbox.Position
	if err := b.accountTables(ctx, 100, "fillfactor = 50", table); err != nil {
		return nil, none, err
	}
	if err := triggers.Install(ctx, b.pool, triggers.Options{Schema: schema}, "public."+table); err != nil {
		return nil, none, err
	}
	for done := 0; done < n-1; {
		next := min(n-1-done, 100_000) // in a transaction
		err := b.exec(ctx, fmt.Sprintf(`insert into %[1]s.outbox (xid, table_name, op, lead, row, at)
			select pg_current_xact_id(), 'public.%[2]s', 'U', i = 1, json_build_object('id', i %% 100 + 1, 'manager', i, 'balance', i, 'note', 'note of ' || i), now() from generate_series(1, %[3]d) i`, schema, table, next))
		if err != nil {
			return nil, none, err
		}
		done += next
	}
	if err := b.exec(ctx, "vacuum analyze "+schema+".outbox"); err != nil {
		return nil, none, err
	}
	src, err := outbox.NewSource(outbox.Config{Schema: schema, Pool: pool, Bell: outbox.BellPoll, Tables: []outbox.TableSpec{{Name: "public." + table}}})
	if err != nil {
		return nil, none, err
	}
	s, err := src.Open(ctx)
	if err != nil {
		return nil, none, err
	}
	var sink ignored
	if err := s.Fetch(ctx, outbox.Request{Reload: []int{0}}, &sink); err != nil {
		s.Close()
		return nil, none, err
	}
	pos := none.Tight(sink.h.Snapshot, sink.h.HighestXid)
	if err := b.exec(ctx, "update "+table+" set balance = balance + 1 where id = 1"); err != nil {
		s.Close()
		return nil, none, err
	}
	return s, pos, nil
}
