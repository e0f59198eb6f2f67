package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/stored"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// verifyCheckpoint brings a checkpoint up to date in memory and holds it against Postgres, at one instant of both.
func verifyCheckpoint(ctx context.Context, pool *pgxpool.Pool, schema string, out io.Writer, dir, node string, tables []string) error {
	c, err := openCheckpoint(dir, node)
	if err != nil {
		return err
	}
	defer func() { _ = c.place.Close() }() // only its lock was taken
	if c.tables, err = c.chosen(ctx, pool, tables); err != nil {
		return err
	}
	up, err := c.catchUp(ctx, pool, schema, catchUpOptions{readOnly: true})
	if err != nil {
		return err
	}
	defer up.close()
	session, reading, shared, err := up.share(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	defer shared.View.Close()
	fmt.Fprintf(out, "position %s\n", shared.Position)
	wrong := 0
	for i, t := range c.tables {
		err := errors.Join(shared.Problems[i], reading.Problem(i))
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		v := &keptVerifier{t: t, i: i, kept: t.Cache.At(shared.View), reading: reading, out: out}
		if err := v.run(ctx); err != nil {
			return err
		}
		wrong += v.wrong
	}
	for _, name := range slices.Sorted(maps.Keys(c.left)) {
		if len(tables) == 0 {
			fmt.Fprintf(out, "%s: not compared: %s\n", name, c.left[name])
		}
	}
	if wrong > 0 {
		return exitError{2, errors.New("the checkpoint and Postgres differ: see above")}
	}
	return nil
}

// chosen are the tables of those names, all where none is named.
func (c *checkpointed) chosen(ctx context.Context, pool *pgxpool.Pool, names []string) ([]*stored.Table, error) {
	if len(names) == 0 {
		return c.tables, nil
	}
	var found []*stored.Table
	for _, name := range names {
		full, err := fullName(ctx, pool, name)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(c.tables, func(t *stored.Table) bool { return t.Name == full || t.Name == name })
		switch {
		case i < 0 && c.left[full] != "":
			return nil, fmt.Errorf("table %s cannot be compared: %s", full, c.left[full])
		case i < 0:
			return nil, fmt.Errorf("the checkpoint does not hold table %s", full)
		}
		found = append(found, c.tables[i])
	}
	return found, nil
}

// share makes an instant that the checkpoint, caught up, and a reading of the tables both show.
func (up *caughtUp) share(ctx context.Context) (session *outbox.Session, reading *outbox.Reading, shared *replay.Shared, err error) {
	all := make([]int, len(up.c.tables))
	for i := range all {
		all[i] = i
	}
	late := fmt.Errorf("no cut was made for %v", patience)
	err = replay.UntilShared(ctx, func() (err error) {
		if session, err = up.src.Open(ctx); err != nil {
			return err //nolint:wrapcheck // said as it is
		}
		if reading, err = session.Read(ctx, "", all...); err == nil {
			shared, _, err = up.engine.ShareReading(ctx, reading, patience, late)
		}
		if err != nil {
			session.Close()
		}
		return err //nolint:wrapcheck // said as it is
	})
	return session, reading, shared, err //nolint:wrapcheck // said as it is
}

// keptVerifier compares one table.
type keptVerifier struct {
	t       *stored.Table
	i       int
	kept    lockstep.TableView[string, []byte]
	reading *outbox.Reading
	out     io.Writer

	rows, both, wrong int
}

func (v *keptVerifier) run(ctx context.Context) error {
	err := v.each(ctx, v.compare)
	if err != nil {
		return err
	}
	held := v.kept.Len()
	if v.both != held {
		if err := v.extra(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(v.out, "%s: %d rows in Postgres, %d in the checkpoint, %d wrong\n", v.t.Name, v.rows, held, v.wrong)
	return nil
}

// each reads the table in the order of its key.
func (v *keptVerifier) each(ctx context.Context, fn func(pgx.CollectableRow) error) (err error) {
	var after []string
	for n := verifyRange; n == verifyRange; {
		if after, n, err = v.reading.Range(ctx, v.i, after, verifyRange, fn); err != nil {
			return err //nolint:wrapcheck // named there
		}
	}
	return nil
}

func (v *keptVerifier) compare(row pgx.CollectableRow) error {
	var theirs []byte
	if err := v.t.Read(row, &theirs); err != nil {
		return fmt.Errorf("table %s: %w", v.t.Name, err)
	}
	v.rows++
	kept, ok := v.kept.Get(v.t.Key(theirs))
	if !ok {
		v.wrong++
		v.say(theirs, lockstep.WrongMissing, nil)
		return nil
	}
	v.both++
	columns, err := v.t.Differ(kept, row)
	if err != nil {
		return fmt.Errorf("table %s: %w", v.t.Name, err)
	}
	if len(columns) > 0 {
		v.wrong++
		v.say(theirs, lockstep.WrongRow, columns)
	}
	return nil
}

// extra names the rows that Postgres does not have. It holds Postgres' keys, since there are some.
func (v *keptVerifier) extra(ctx context.Context) error {
	theirs := make(map[string]struct{}, v.rows)
	err := v.each(ctx, func(row pgx.CollectableRow) error {
		var r []byte
		if err := v.t.Read(row, &r); err != nil {
			return fmt.Errorf("table %s: %w", v.t.Name, err)
		}
		theirs[v.t.Key(r)] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	for key, row := range v.kept.All() {
		if _, ok := theirs[key]; !ok {
			v.wrong++
			v.say(row, lockstep.WrongExtra, nil)
		}
	}
	return nil
}

func (v *keptVerifier) say(row []byte, what lockstep.Wrong, columns []string) {
	text := map[lockstep.Wrong]string{
		lockstep.WrongMissing: "the checkpoint does not have it", lockstep.WrongExtra: "Postgres does not have it", lockstep.WrongRow: "the rows differ",
	}[what]
	if len(columns) > 0 {
		text += " in " + strings.Join(columns, ", ")
	}
	fmt.Fprintf(v.out, "%s %s: %s\n", v.t.Name, v.t.KeyText(row), text)
}
