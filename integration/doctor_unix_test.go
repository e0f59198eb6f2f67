//go:build unix

package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/doctor"
)

// finding is the first finding of a check in a fresh examination, nil where there is none.
func finding(t *testing.T, pool *pgxpool.Pool, o doctor.Options, check string) *doctor.Finding {
	t.Helper()
	report, err := doctor.Examine(deadline(t), pool, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Check == check {
			return &f
		}
	}
	return nil
}

func TestTheDoctorKnowsAPoolerAndWhatItDoesToTheBell(t *testing.T) {
	db := fresh(t)
	items(t, db)
	o := doctor.Options{Long: time.Hour}
	for _, check := range []string{"pooler", "a node's session"} {
		if f := finding(t, db.Pool(t), o, check); f != nil {
			t.Errorf("without a pooler: %+v", f)
		}
	}
	pool, err := pgxpool.New(deadline(t), pooled(t, db))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if f := finding(t, pool, o, "pooler"); f == nil || f.Level != doctor.Note {
		t.Errorf("the pooler: %+v", f)
	}
	if f := finding(t, pool, o, "a node's session"); f == nil || f.Level != doctor.Warning || !strings.Contains(f.What, "LISTEN hears nothing") {
		t.Errorf("a node behind it: %+v", f)
	}
}

func TestTheDoctorFindsTheSnapshotThatAStandbyHolds(t *testing.T) {
	p := newPair(t)
	there, pool, o := p.there(t), p.db.Pool(t), doctor.Options{Long: time.Hour, OldXids: 10}
	there.Exec(t, "alter system set hot_standby_feedback = on")
	there.Exec(t, "alter system set wal_receiver_status_interval = 1")
	there.Exec(t, "select pg_reload_conf()")
	reader := there.Conn(t)
	if _, err := reader.Exec(deadline(t), "begin isolation level repeatable read; select count(*) from items"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		p.db.Exec(t, "update items set v = v + 1 where id = 1")
	}
	found := func(what string) func() bool {
		return func() bool {
			f := finding(t, pool, o, "old snapshots")
			return f != nil && f.Level == doctor.Warning && strings.Contains(f.What, what) && strings.Contains(f.Mend, "hot_standby_feedback = off")
		}
	}
	until(t, "the standby's snapshot is found", found("standby process"))
	p.db.Exec(t, "select pg_create_physical_replication_slot('held')")
	there.Exec(t, "alter system set primary_slot_name = 'held'")
	there.Exec(t, "select pg_reload_conf()")
	until(t, "the slot's snapshot is found", found("physical replication slot held"))
	if _, err := reader.Exec(deadline(t), "rollback"); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is found any more", func() bool { return finding(t, pool, o, "old snapshots") == nil })
}
