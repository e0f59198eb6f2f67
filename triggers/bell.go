package triggers

import (
	"cmp"
	"context"
	"fmt"

	"github.com/pglockstep/lockstep/internal/psql"
)

// bellFiles put each bell in place, and take the others away.
var bellFiles = map[Bell]string{BellNotify: "bell_on.sql", BellWAL: "bell_wal.sql", BellOff: "bell_off.sql"}

// bell is the file to run so that the bell is as the options want it; "" if
// it is so already. CREATE TRIGGER on the outbox would stop its writers.
func (in *installer) bell(ctx context.Context, installed bool) (string, error) {
	want, is := in.Bell, BellDefault
	if installed {
		b, err := bellOf(ctx, in.db, in.Options)
		if err != nil {
			return "", err
		}
		is, want = b.is, cmp.Or(want, b.named)
	}
	if want == BellDefault {
		var err error
		if want, err = in.firstBell(ctx); err != nil {
			return "", err
		}
	}
	file, known := bellFiles[want]
	switch {
	case !known:
		return "", fmt.Errorf("triggers: bell %q: want %q, %q or %q", want, BellNotify, BellWAL, BellOff)
	case want == is:
		return "", nil
	case want == BellWAL:
		return file, in.warnOfLevel(ctx)
	}
	return file, nil
}

// warnOfLevel says that the WAL bell waits for a setting that takes a restart.
func (in *installer) warnOfLevel(ctx context.Context) error {
	var level string
	if err := in.db.QueryRow(ctx, "select current_setting('wal_level')").Scan(&level); err != nil {
		return fmt.Errorf("triggers: read wal_level: %w", err)
	}
	if level != "logical" {
		in.Logger.Warn("nodes poll until wal_level is logical, which takes a restart of Postgres", "wal_level", level)
	}
	return nil
}

// bell is what a database has for a bell.
type bell struct {
	is    Bell // in place; "" where it is not as install leaves it
	named Bell // by meta
	level string
}

func bellOf(ctx context.Context, q querier, o Options) (b bell, err error) {
	sql, err := render("bell_is.sql", o.vars())
	if err != nil {
		return b, err
	}
	if err := q.QueryRow(ctx, sql).Scan(&b.is, &b.named, &b.level); err != nil {
		return b, fmt.Errorf("triggers: look for the bell: %w", err)
	}
	return b, nil
}

// firstBell is the bell of a first install that asks for none.
func (in *installer) firstBell(ctx context.Context) (Bell, error) {
	var prepared int
	if err := in.db.QueryRow(ctx, "select current_setting('max_prepared_transactions')::int").Scan(&prepared); err != nil {
		return "", fmt.Errorf("triggers: read max_prepared_transactions: %w", err)
	}
	if prepared == 0 {
		return BellNotify, nil
	}
	in.Logger.Info("the bell stays off, since max_prepared_transactions is above 0 and NOTIFY forbids PREPARE TRANSACTION: nodes will poll, unless they read the log (install --bell wal)")
	return BellOff, nil
}

// drift says what keeps the bell from ringing, or rings beside it.
func (b bell) drift(o Options) (found []Finding) {
	mend := "lockstep install --bell " + string(b.named)
	if b.is != b.named {
		what := map[Bell]string{
			BellNotify: "the bell is notify, but its trigger is missing or not ALWAYS, or publication " + psql.Publication(o.Schema) + " is there as well",
			BellWAL:    "the bell is wal, but publication " + psql.Publication(o.Schema) + " is missing or publishes something else, or the trigger that notifies is there as well",
			BellOff:    "the bell is off, but its trigger or publication " + psql.Publication(o.Schema) + " is there",
		}[b.named]
		found = append(found, Finding{Kind: "bell", What: what, Mend: mend})
	}
	if b.named == BellWAL && b.level != "logical" {
		found = append(found, Finding{Kind: "bell", What: "the bell is wal, but wal_level is " + b.level + ", so that nodes poll",
			Mend: "wal_level = logical and a restart of Postgres, or lockstep install --bell notify"})
	}
	return found
}
