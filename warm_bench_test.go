package lockstep

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

type warmRow struct {
	ID      int
	Manager int
	Balance int64
	Note    string
}

// BenchmarkThaw reads a checkpoint of a million rows into an empty table, as a warm start does.
func BenchmarkThaw(b *testing.B) {
	const rows = 1_000_000
	place := checkpoint.New(b.TempDir(), "bench")
	defer place.Close()
	frozen := func() (replay.Table, *cache.Store, replay.Frozen) {
		t := NewTable("public.large", func(r warmRow) int { return r.ID })
		var have []outbox.ColumnInfo
		for i, c := range []struct {
			name string
			oid  uint32
		}{{"id", pgtype.Int4OID}, {"manager", pgtype.Int4OID}, {"balance", pgtype.Int8OID}, {"note", pgtype.TextOID}} {
			have = append(have, outbox.ColumnInfo{Name: c.name, OID: c.oid, Format: 1})
			if i == 0 {
				have[0].KeyPlace = 1
			}
		}
		if _, err := t.spec().Columns(have); err != nil {
			b.Fatal(err)
		}
		store, err := cache.NewStore(cache.Options{}, t.cached())
		if err != nil {
			b.Fatal(err)
		}
		bound := t.bind(&comparer{types: pgtype.NewMap()}, true)
		f, err := bound.Freeze()
		if err != nil {
			b.Fatal(err)
		}
		return bound, store, f
	}
	t, store, f := frozen()
	w := store.Begin()
	t.BeginReplace(w)
	for i := range rows {
		if err := t.ReplaceRow(given{v: warmRow{i, i / 10, int64(i), "note of " + itoa(i)}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := t.EndReplace(); err != nil {
		b.Fatal(err)
	}
	w.Publish(nil)
	file, err := place.Create(nil)
	if err != nil {
		b.Fatal(err)
	}
	v := store.OpenView()
	if err := f.Save(v, func(row []byte) error { return file.Row(0, row) }); err != nil {
		b.Fatal(err)
	}
	plan := f.Plan(v)
	v.Close()
	if _, err := file.Commit(); err != nil {
		b.Fatal(err)
	}
	store.Close()
	for _, how := range []string{"decoded", "encoded", "trusted"} {
		b.Run(how, func(b *testing.B) {
			b.ReportAllocs()
			keep, plan := how != "decoded", plan
			if how != "trusted" {
				plan.Program = "another"
			} else if plan.Program == "" {
				b.Skip("the build of this program is not known")
			}
			for b.Loop() {
				t, store, f := frozen()
				takeIn(b, place, t, store, f, plan, keep)
				store.Close()
			}
		})
	}
}

// takeIn reads the checkpoint with as many goroutines as there are processors, and either decodes all rows or leaves them encoded.
func takeIn(b *testing.B, place *checkpoint.Store, t replay.Table, store *cache.Store, f replay.Frozen, plan replay.Plan, keep bool) {
	r, err := place.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	w := store.Begin()
	t.BeginReplace(w)
	kept := f.Keep(plan, nil)
	if kept == nil {
		b.Fatal("the rows cannot stay encoded")
	}
	parts, staged := make(chan func() error, 4), make(chan func() error, 4)
	go func() {
		defer close(parts)
		for {
			_, rows, check, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				b.Error(err)
				return
			}
			parts <- func() error {
				if err := check(); err != nil || keep {
					return errors.Join(err, kept.Add(rows))
				}
				stage, err := f.Thaw(plan, rows)
				staged <- stage
				return err
			}
		}
	}()
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for part := range parts {
				if err := part(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	go func() {
		working.Wait()
		close(staged)
	}()
	for stage := range staged {
		if err := stage(); err != nil {
			b.Fatal(err)
		}
	}
	if keep {
		if err := kept.Stage(); err != nil {
			b.Fatal(err)
		}
	}
	if err := t.EndReplace(); err != nil {
		b.Fatal(err)
	}
	w.Publish(nil)
}

// given is a row that is a value already.
type given struct {
	pgx.CollectableRow
	v any
}

func (g given) Value() any { return g.v }
