package replay

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/cache"
	"github.com/pglockstep/lockstep/internal/logbuf"
	"github.com/pglockstep/lockstep/outbox"
)

// wantWarm checks that the engine began with the checkpoint and loaded nothing.
func (r *rig) wantWarm(replayed uint64) Status {
	r.Helper()
	st := r.wantState(Live)
	if c := st.Checkpoint; !c.Restored || c.Refused != "" || c.At.IsZero() || len(st.Loads) != 0 || st.Replays != 1 || st.EventsReplayed != replayed {
		r.Errorf("checkpoint %+v, loads %+v, %d replays of %d events, want one of %d", c, st.Loads, st.Replays, st.EventsReplayed, replayed)
	}
	return st
}

// wantCold checks that the engine loaded all tables because of the reason.
func (r *rig) wantCold(reason string) {
	r.Helper()
	st := r.wantState(Live)
	if c := st.Checkpoint; c.Restored || !strings.Contains(c.Refused, reason) || strings.Contains(c.Refused, "\n") {
		r.Errorf("checkpoint %+v, want it refused because of %q", c, reason)
	}
	if len(st.Loads) != 1 || st.Loads[0].Reason != FirstLoad || len(st.Loads[0].Tables) != 2 || !strings.Contains(st.Loads[0].Detail, reason) || st.Resyncs != 0 {
		r.Errorf("loads %+v, want the first one of all tables, because of %q", st.Loads, reason)
	}
}

func TestAStartFromACheckpointBringsWhatWasMissedAndLoadsNothing(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, p *place) {
		slow := r.db.begin() // in flight while nobody looks
		slow.put(emp, 9, "slow")
		r.write(emp, 2, "two")
		r.write(dept, 2, "gone soon")
		r.settle()
		r.restart("e", "d")
		if len(p.done) != 1 || p.closed != 1 {
			t.Fatalf("%d checkpoints after Close, %d times closed", len(p.done), p.closed)
		}
		r.write(emp, 1, "one again")
		tx := r.db.begin()
		tx.del(dept, 2)
		tx.commit()
		slow.commit()
		r.start()
		r.settle()
		r.wantWarm(3)
		if last := r.published(); !last[len(last)-1].Checkpoint || len(last[len(last)-1].Loaded) != 0 {
			t.Errorf("the cut is %+v", last[len(last)-1])
		}
		r.want(r.emp, 9, "slow")
		r.write(emp, 3, "three") // and it goes on
		r.settle()
		r.want(r.emp, 3, "three")
		r.restart("e", "d") // from a checkpoint of what began with one, and without a change
		r.start()
		r.settle()
		r.wantWarm(0)
		r.quiet()
	})
}

func TestSubscribersOfAWarmStartSeeTheCurrentRowsAsOfALoad(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
		r.restart("e", "d")
		r.write(emp, 2, "two")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r.start()
		var seen []string
		for c, err := range r.emp.Changes(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Op == cache.Live {
				break
			}
			if c.Op != cache.Current {
				t.Errorf("op %v", c.Op)
			}
			seen = append(seen, c.New.V)
		}
		slices.Sort(seen)
		if !slices.Equal(seen, []string{"one", "two"}) {
			t.Errorf("current rows %q", seen)
		}
	})
}

func TestACheckpointThatIsNoLongerGoodIsRefusedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, r *rig, p *place)
		reason string
	}{
		"another database": {func(_ *testing.T, r *rig, _ *place) { r.set(func(db *fakeDB) { db.other = ", another one" }) }, "it is of the fake, this is the fake, another one"},
		"another history":  {func(_ *testing.T, r *rig, _ *place) { r.db.newHistory() }, string(HistoryChanged)},
		"trimmed": {func(_ *testing.T, r *rig, _ *place) {
			r.write(emp, 2, "missed")
			r.db.trim(r.write(emp, 3, "kept"))
		}, string(Trimmed)},
		"a lost tail": {func(_ *testing.T, r *rig, _ *place) {
			var place int
			r.set(func(db *fakeDB) { place = slices.Max(slices.Collect(maps.Values(db.commits))) - 1 })
			r.db.crash(place)
			r.write(emp, 2, "on the same id")
		}, string(AnchorMissing)},
		"a snapshot that went back": {func(_ *testing.T, r *rig, _ *place) {
			r.set(func(db *fakeDB) {
				db.rewind = func(outbox.Position) outbox.Position {
					db.rewind = nil
					return outbox.NewPosition(90, nil)
				}
			})
		}, string(HistoryChanged)},
		"torn at its first row": {func(_ *testing.T, _ *rig, p *place) { p.endsAt = 1 }, "the rest is torn"},
		"torn at its end":       {func(_ *testing.T, _ *rig, p *place) { p.endsAt = 3 }, "the rest is torn"},
		"unreadable":            {func(_ *testing.T, _ *rig, p *place) { p.noOpen = errors.New("no such luck") }, "no such luck"},
		"no head":               {func(_ *testing.T, _ *rig, p *place) { p.last().head = []byte("{") }, "its head cannot be read"},
		"a later version":       {func(t *testing.T, _ *rig, p *place) { p.changeHead(t, func(h *head) { h.Version++ }) }, "it is of version 2"},
		"more rows than can be": {func(t *testing.T, _ *rig, p *place) {
			p.changeHead(t, func(h *head) { h.Tables[0].Plan.Rows = 1 << 45 })
		}, "its head announces 35184372088832 rows"},
		"no position": {func(t *testing.T, _ *rig, p *place) {
			p.changeHead(t, func(h *head) { h.Position = outbox.Position{} })
		}, "no position"},
		"no such table": {func(t *testing.T, _ *rig, p *place) {
			p.changeHead(t, func(h *head) { h.Tables[0].Name, h.Tables[1].Name = "public.a", "public.b" })
		}, "none of the tables"},
		"rows of no table":   {func(_ *testing.T, _ *rig, p *place) { p.last().rows[1].table = 2 }, "rows of table 2"},
		"a row twice":        {func(_ *testing.T, _ *rig, p *place) { k := p.last(); k.rows = append(k.rows, k.rows[0]) }, "given twice"},
		"a row of something": {func(_ *testing.T, _ *rig, p *place) { r := &p.last().rows[0]; r.row = append(r.row[:5], '?') }, "expected integer"},
		"a row of nothing":   {func(_ *testing.T, _ *rig, p *place) { p.last().rows[0].row = []byte("?") }, "shorter than it can be"},
		"a table that cannot be kept for a moment": {func(_ *testing.T, r *rig, _ *place) {
			r.set(func(db *fakeDB) {
				db.problems = map[int]error{1: errors.New("locked")}
				db.during = func() { r.set(func(db *fakeDB) { db.problems = nil }) }
			})
		}, "locked"},
	} {
		t.Run(name, func(t *testing.T) {
			var log logbuf.Buffer
			keeping(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *rig, p *place) {
				r.restart("e", "d")
				before := len(r.published())
				c.change(t, r, p)
				log.Reset()
				r.start()
				r.settle()
				r.wantCold(c.reason)
				if n := strings.Count(log.String(), "the checkpoint is not used"); n < 1 || strings.Count(log.String(), "level=WARN") != 1 {
					t.Errorf("the log should say it in one warning:\n%s", log.String())
				}
				if n := len(r.published()) - before; n != 1 {
					t.Errorf("%d states were published, want the load's only", n)
				}
				p.endsAt, p.noOpen = 0, nil
				r.restart("e", "d") // the next one is good again
				r.start()
				r.settle()
				r.wantWarm(0)
			})
		})
	}
}

func TestACheckpointWhoseTransactionsAreTooManyToProveIsNotWritten(t *testing.T) {
	keeping(t, Config{MaxAnchors: 2}, func(t *testing.T, r *rig, p *place) {
		for i := range 5 {
			tx := r.db.begin()
			tx.put(emp, 10+i, "many")
			defer tx.abort()
			tx.commitSilently()
		}
		r.db.ring()
		r.settle()
		r.restart("e", "d")
		if len(p.done) != 0 {
			t.Error("a checkpoint from which nobody can start was written")
		}
	})
}

func TestATableThatTheCheckpointLacksIsLoadedInTheSameCut(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
		r.restart("", "d") // this one writes none of emp
		r.start()
		r.settle()
		if st := r.eng.Status(); !st.Checkpoint.Restored || len(st.Loads) != 1 || !slices.Equal(st.Loads[0].Tables, []string{emp}) {
			t.Errorf("a table that has become unreadable: %+v", st)
		}
		r.restart("e", "d")
		r.write(emp, 2, "two")
		r.write(dept, 2, "second")
		r.start()
		r.settle()
		st := r.wantState(Live)
		if !st.Checkpoint.Restored || st.EventsReplayed != 1 || len(st.Loads) != 1 {
			t.Fatalf("%+v", st)
		}
		l := st.Loads[0]
		if l.Reason != FirstLoad || !slices.Equal(l.Tables, []string{emp}) || !strings.Contains(l.Detail, "it has no inverse") {
			t.Errorf("load %+v", l)
		}
		if n := len(r.published()); !r.published()[n-1].Checkpoint || r.fetches() == 0 {
			t.Errorf("the last cut is %+v", r.published()[n-1])
		}
	})
}

func TestATableOfAnotherShapeOrADriftedOneIsLoadedInTheSameCut(t *testing.T) {
	for name, c := range map[string]struct {
		shape  string
		alter  bool
		reason Reason
	}{"shape": {"e2", false, FirstLoad}, "drift": {"e", true, Drift}, "both": {"e2", true, Drift}} {
		t.Run(name, func(t *testing.T) {
			keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
				r.write(emp, 2, "two")
				r.settle()
				r.restart(c.shape, "d")
				if c.alter {
					r.db.alter(emp, func(v string) string { return v + "!" })
				}
				r.write(dept, 2, "second")
				r.start()
				r.settle()
				st := r.wantState(Live)
				if !st.Checkpoint.Restored || st.EventsReplayed != 1 || len(st.Loads) != 1 || st.Loads[0].Reason != c.reason || !slices.Equal(st.Loads[0].Tables, []string{emp}) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestWhatEventsCannotCarryIsReadWhenStartingFromACheckpoint(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
		r.restart("e", "d")
		tx := r.db.begin()
		tx.putUncarried(emp, 1, version{v: "by key"}, true)
		tx.putUncarried(dept, 1, version{v: "whole"}, false)
		tx.putUncarried(emp, 4, version{gone: true}, true)
		tx.commit()
		r.start()
		r.settle()
		st := r.wantState(Live)
		if !st.Checkpoint.Restored || len(st.Loads) != 1 || st.Loads[0].Reason != ReloadEvent {
			t.Errorf("%+v", st)
		}
		r.want(r.emp, 1, "by key")
		r.want(r.dept, 1, "whole")
	})
}

func TestACheckpointThatDoesNotFitIntoMemoryIsRefused(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
		for i := range 100 {
			r.write(emp, 100+i, "many")
		}
		r.settle()
		r.cfg.MaxBytes = 4000
		r.restart("e", "d")
		tx := r.db.begin()
		tx.truncate(emp)
		tx.commit()
		r.start()
		r.settle()
		r.wantCold("memory")
	})
}

func TestAFailureOfTheServerWhileStartingFromACheckpointIsFinalAndKeepsTheCheckpoint(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, p *place) {
		r.restart("e", "d")
		for fail := 1; ; fail++ {
			r.set(func(db *fakeDB) { db.failAt = db.points + fail })
			err := r.eng.Start(t.Context())
			if err == nil {
				break
			}
			if fail > 20 {
				t.Fatal(err)
			}
			if !errors.Is(err, errPulled) || r.emp.Len() != 0 {
				t.Errorf("Start failed with %v, %d rows are there", err, r.emp.Len())
			}
			r.restart("e", "d")
			if len(p.done) != 1 {
				t.Fatalf("an engine that never was live has written a checkpoint")
			}
		}
		r.set(func(db *fakeDB) { db.failAt = 0 })
		r.settle()
		r.wantWarm(0)
	})
}

func TestCheckpointsAreWrittenWhileLiveAndNotWithoutAChange(t *testing.T) {
	keeping(t, Config{CheckpointEvery: time.Minute}, func(t *testing.T, r *rig, p *place) {
		time.Sleep(59 * time.Second)
		if p.count() != 0 {
			t.Errorf("%d checkpoints before the time", p.count())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := r.eng.Status(); p.count() != 1 || st.Checkpoint.Written.IsZero() || st.Checkpoint.Bytes != 2 || !st.Checkpoint.Position.Equal(st.Position) {
			t.Errorf("%d checkpoints, %+v", p.count(), st.Checkpoint)
		}
		time.Sleep(10 * time.Minute)
		if p.count() != 1 {
			t.Errorf("%d checkpoints although nothing has changed", p.count())
		}
		r.write(emp, 2, "two")
		time.Sleep(2 * time.Minute)
		if p.count() != 2 {
			t.Errorf("%d checkpoints, want one more after a change", p.count())
		}
		r.restart("e", "d")
		if p.count() != 2 {
			t.Errorf("%d checkpoints, want none by Close without a change", p.count())
		}
	})
	keeping(t, Config{CheckpointEvery: -1}, func(t *testing.T, r *rig, p *place) {
		time.Sleep(time.Hour)
		if p.count() != 0 {
			t.Errorf("%d checkpoints, want only that of Close", p.count())
		}
		r.restart("e", "d")
		if p.count() != 1 {
			t.Errorf("%d checkpoints after Close", p.count())
		}
	})
}

func TestACheckpointIsOneStateWhateverIsAppliedMeanwhile(t *testing.T) {
	keeping(t, Config{CheckpointEvery: time.Minute}, func(t *testing.T, r *rig, p *place) {
		for i := range 50 {
			r.write(emp, i, "old")
		}
		var n atomic.Int64
		p.set(func(p *place) {
			p.onRow = func() {
				n.Add(1)
				r.write(emp, int(n.Load())%50, "new")
				r.write(emp, 100+int(n.Load()), "new")
				time.Sleep(10 * time.Millisecond) // the engine applies it
			}
		})
		time.Sleep(70 * time.Second)
		synctest.Wait()
		p.set(func(p *place) { p.onRow = nil })
		k := p.last()
		if k == nil || len(k.rows) != 51 {
			t.Fatalf("the checkpoint is %+v", k)
		}
		for _, row := range k.rows {
			if strings.Contains(string(row.row), "new") {
				t.Errorf("row %q is of another state", row.row)
			}
		}
		if got := r.emp.Len(); got < 100 {
			t.Errorf("only %d rows: the engine was held up", got)
		}
		// A process that was killed: this is all that is left.
		p.set(func(p *place) { p.done, p.noWrite = p.done[:1], errors.New("no more") })
		r.restart("e", "d")
		p.set(func(p *place) { p.noWrite = nil })
		if st := r.eng.Status(); p.count() != 1 || st.Checkpoint.Restored {
			t.Errorf("%d checkpoints", p.count())
		}
		r.start()
		r.settle()
		r.wantWarm(uint64(2 * n.Load()))
	})
}

func TestAWriteThatFailsIsSaidOnceAndStopsNothing(t *testing.T) {
	var log logbuf.Buffer
	keeping(t, Config{CheckpointEvery: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *rig, p *place) {
		p.set(func(p *place) { p.noWrite = errors.New("no space left") })
		for range 5 {
			r.write(emp, 2, "x")
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		st := r.wantState(Live)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || p.attempts() < 4 {
			t.Errorf("%d attempts, %d warnings:\n%s", p.attempts(), n, log.String())
		}
		if st.Checkpoint.LastError == nil || st.Checkpoint.LastErrorAt.IsZero() || !st.Checkpoint.Written.IsZero() {
			t.Errorf("%+v", st.Checkpoint)
		}
		p.set(func(p *place) { p.noWrite = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := r.eng.Status(); st.Checkpoint.LastError != nil || st.Checkpoint.Written.IsZero() || !strings.Contains(log.String(), "written again") {
			t.Errorf("%+v\n%s", st.Checkpoint, log.String())
		}
	})
}

func TestCloseWhileACheckpointIsWrittenWritesTheLastState(t *testing.T) {
	keeping(t, Config{CheckpointEvery: time.Minute}, func(t *testing.T, r *rig, p *place) {
		for i := range 50 {
			r.write(emp, i, "old")
		}
		p.set(func(p *place) { p.onRow = func() { time.Sleep(time.Second) } })
		time.Sleep(80 * time.Second)
		r.write(emp, 60, "last")
		r.settle()
		if done, begun := p.completed(); done != 0 || begun != 1 {
			t.Fatalf("%d begun, %d done", begun, done)
		}
		closed := make(chan error)
		go func() { closed <- r.eng.Close(context.Background()) }()
		time.Sleep(2 * time.Second)
		p.set(func(p *place) { p.onRow = nil })
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if p.count() != 1 || len(p.last().rows) != 52 {
			t.Errorf("%d checkpoints, %+v", p.count(), p.last())
		}
		r.restart("e", "d")
		r.start()
		r.settle()
		r.wantWarm(0)
	})
}

func TestCloseDoesNotWaitForItsCheckpointLongerThanItIsTold(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, p *place) {
		p.set(func(p *place) { p.onRow = func() { time.Sleep(time.Minute) } })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.eng.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if p.count() != 0 {
			t.Error("it was written all the same")
		}
	})
}

func TestATableWithARowThatCannotBeWrittenIsLeftOutAndLoaded(t *testing.T) {
	keeping(t, Config{CheckpointEvery: time.Minute}, func(t *testing.T, r *rig, p *place) {
		r.write(emp, 5, "unfit")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		st := r.eng.Status()
		if p.count() != 1 || len(st.Checkpoint.Without) != 1 || !strings.Contains(st.Checkpoint.Without[0], emp+": ") || !strings.Contains(st.Checkpoint.Without[0], "key 5") {
			t.Fatalf("%d checkpoints, %+v", p.count(), st.Checkpoint)
		}
		r.restart("e", "d")
		r.start()
		r.settle()
		if st := r.wantState(Live); !st.Checkpoint.Restored || len(st.Loads) != 1 || !strings.Contains(st.Loads[0].Detail, "key 5") {
			t.Errorf("%+v", st)
		}
	})
}

func TestNoCheckpointIsWrittenOfAPositionThatIsWorthless(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, p *place) {
		r.db.newHistory()
		r.set(func(db *fakeDB) { db.problems = nil; db.failAt = db.points + 4 })
		time.Sleep(10 * time.Second)
		r.set(func(db *fakeDB) { db.down, db.failAt = errPulled, 0; db.cutOff() })
		r.db.newHistory()
		time.Sleep(10 * time.Second)
		r.restart("e", "d")
		r.cameBack()
		if p.count() > 1 {
			t.Errorf("%d checkpoints", p.count())
		}
		r.start()
		r.settle()
		r.wantCold(string(HistoryChanged))
	})
}

// The file is read before anything is known of the server. What has to be decoded waits for the cut, and no more of it than can: whatever
// becomes of the cut, the reading goes on or ends.
func TestAFileThatIsReadBeforeTheServerIsKnownWaitsForTheCut(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, p *place) {
		const rows = 3 * othersWait // each is a part of its own
		for k := range rows {
			r.write(emp, k, "one of many")
		}
		r.settle()
		r.restart("e", "d")
		for fail := 1; ; fail++ {
			r.set(func(db *fakeDB) { db.failAt = db.points + fail })
			if err := r.eng.Start(t.Context()); err == nil {
				break
			} else if fail > 20 || !errors.Is(err, errPulled) {
				t.Fatal(err)
			}
			r.restart("e", "d")
		}
		r.set(func(db *fakeDB) { db.failAt = 0 })
		r.settle()
		r.wantWarm(0)
		if n := r.emp.Len(); n != rows {
			t.Errorf("%d rows, want %d", n, rows)
		}
		r.restart("e", "another") // which is found out with the server's answer: the cut is made again
		r.start()
		r.settle()
		if st := r.wantState(Live); !st.Checkpoint.Restored || r.emp.Len() != rows || len(st.Loads) != 1 || len(st.Loads[0].Tables) != 1 {
			t.Errorf("%d rows, %+v, loads %+v", r.emp.Len(), st.Checkpoint, st.Loads)
		}
		r.restart("e", "another")
		p.endsAt = rows / 2 // torn behind what may wait
		r.start()
		r.settle()
		r.wantCold("the rest is torn")
	})
}

func TestAStartThatIsGivenUpEndsTheReading(t *testing.T) {
	keeping(t, Config{}, func(t *testing.T, r *rig, _ *place) {
		for k := range 3 * othersWait {
			r.write(emp, k, "one of many")
		}
		r.settle()
		r.restart("e", "d")
		r.set(func(db *fakeDB) { db.delay = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.eng.Start(ctx); !errors.Is(err, context.DeadlineExceeded) { // and nothing of it runs any more, or synctest says so
			t.Errorf("Start: %v", err)
		}
		r.set(func(db *fakeDB) { db.delay = 0 })
		r.renew("e", "d")
		r.start()
		r.settle()
		r.wantWarm(0)
	})
}
