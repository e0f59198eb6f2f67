package main

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// missedEvent is a line of replay.
type missedEvent struct {
	Seq   int64
	Part  int
	Xid   string
	Table string
	Op    string
	Row   struct {
		ID   int
		Name *string
	}
}

func missedEvents(t *testing.T, out string) (events []missedEvent) {
	t.Helper()
	for line := range strings.Lines(out) {
		var ev missedEvent
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		events = append(events, ev)
	}
	return events
}

// position is the last line of a summary.
func position(t *testing.T, summary string) string {
	t.Helper()
	_, p, ok := strings.Cut(summary, "position ")
	if !ok {
		t.Fatalf("no position in %q", summary)
	}
	return strings.TrimSpace(p)
}

func TestReplayPrintsEachMissedEventOnce(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key, name text); create table b (id int primary key); insert into a values (1, 'before')")
	env := []string{"LOCKSTEP_DSN=" + db.DSN()}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a", "--table", "public.b"); status != 0 {
		t.Fatal(errs)
	}
	conn := db.Conn(t)
	var from string
	if err := conn.QueryRow(t.Context(), "select pg_current_snapshot()::text").Scan(&from); err != nil {
		t.Fatal(err)
	}
	replay := func(args ...string) (out, errs string) {
		t.Helper()
		out, errs, status := runCommand(t, env, append([]string{"replay"}, args...)...)
		if status != 0 {
			t.Fatalf("replay %q: %d %s", args, status, errs)
		}
		return out, errs
	}
	if out, errs := replay("--from", from); out != "" || !strings.HasPrefix(errs, "nothing was missed\n") {
		t.Errorf("nothing was written: %q %q", out, errs)
	}
	late, err := conn.Begin(t.Context()) // draws a low transaction id and commits last
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(t.Context(), "insert into a values (100, 'late')"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "insert into a select i, 'row ' || i from generate_series(2, 50) i; insert into b values (1)")
	_, errs := replay("--from", from)
	middle := position(t, errs)
	db.Exec(t, "update a set name = null where id < 10; delete from a where id > 40; truncate b")
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	out, errs := replay("--from", from)
	all := missedEvents(t, out)
	rows := map[int]string{1: "before"}
	for _, ev := range all {
		if ev.Table != "public.a" {
			continue
		}
		delete(rows, ev.Row.ID)
		if ev.Op != "delete" {
			rows[ev.Row.ID] = "null"
			if ev.Row.Name != nil {
				rows[ev.Row.ID] = *ev.Row.Name
			}
		}
	}
	want := map[int]string{}
	found, err := db.Conn(t).Query(t.Context(), "select id, coalesce(name, 'null') from a")
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var id int
		var name string
		if err := found.Scan(&id, &name); err != nil {
			t.Fatal(err)
		}
		want[id] = name
	}
	if found.Err() != nil || !maps.Equal(rows, want) {
		t.Errorf("applied to what was there before, the events give %v, the table has %v", rows, want)
	}
	for _, text := range []string{"public.a   50       9        10       0", "public.b   1        0        0        1", "71 events, captured from "} {
		if !strings.Contains(errs, text) {
			t.Errorf("%q is missing in\n%s", text, errs)
		}
	}
	if again, _ := replay("--from", from); again != out {
		t.Error("the same again gives something else")
	}
	first, _ := replay("--from", from, "--to", middle)
	rest, _ := replay("--from", middle)
	type number struct {
		seq  int64
		part int
	}
	seen := map[number]bool{}
	for _, ev := range append(missedEvents(t, first), missedEvents(t, rest)...) {
		n := number{ev.Seq, ev.Part}
		if seen[n] {
			t.Errorf("event %d came twice", n)
		}
		seen[n] = true
	}
	if len(seen) != len(all) {
		t.Errorf("in two parts %d events, at once %d", len(seen), len(all))
	}
	if n := len(missedEvents(t, first)); n != 50 {
		t.Errorf("up to the middle %d events, want 50: one transaction had not committed", n)
	}
	if out, errs := replay("--from", position(t, errs)); out != "" || !strings.HasPrefix(errs, "nothing was missed\n") {
		t.Errorf("from the new position: %q %q", out, errs)
	}
	if only, _ := replay("--from", from, "--table", "b"); len(missedEvents(t, only)) != 2 {
		t.Errorf("of one table: %s", only)
	}
	out, errs = replay("--from", from, "--dry-run", "--json")
	var sum summary
	if err := json.Unmarshal([]byte(out), &sum); err != nil || errs != "" || sum.Events != 71 || len(sum.Tables) != 2 || sum.Tables[0].Ops["delete"] != 10 || sum.First.IsZero() || sum.Position.IsZero() {
		t.Errorf("--dry-run --json: %q %q %v", out, errs, err)
	}
	db.Exec(t, "insert into lockstep.nodes (name, position, state, host, version, beat) values ('web-1', '"+middle+"', 'closed', '', 1, now()), ('new', '', 'loading', '', 1, now())")
	if out, _ := replay("--node", "web-1"); out != rest {
		t.Errorf("--node: %q, want %q", out, rest)
	}

	db.Exec(t, "update lockstep.horizon set xid = pg_current_xact_id(), moved = '2024-02-29 12:00Z'")
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"trimmed", []string{"--from", from}, 3, "last trimmed 2024-02-29T12:00:00Z"},
		{"nowhere to begin", nil, 1, "--from"},
		{"two beginnings", []string{"--from", from, "--node", "web-1"}, 1, "not both"},
		{"no position", []string{"--from", "12"}, 1, "position"},
		{"no end", []string{"--from", from, "--to", "soon"}, 1, "--to"},
		{"an empty end", []string{"--from", from, "--to", ""}, 1, "--to"},
		{"a future", []string{"--from", "99999999:99999999:"}, 1, "not in this database's past"},
		{"an end to come", []string{"--from", from, "--to", "99999999:99999999:"}, 1, "not reached yet"},
		{"an end before the beginning", []string{"--from", middle, "--to", from}, 1, "does not include"},
		{"a table without capture", []string{"--from", from, "--table", "public.c"}, 1, "public.c is not captured"},
		{"no such node", []string{"--node", "web-2"}, 1, "lockstep status"},
		{"a node without a position", []string{"--node", "new"}, 1, "no position"},
	} {
		out, errs, status := runCommand(t, env, append([]string{"replay"}, c.args...)...)
		if status != c.status || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: status %d, %q %q, want one line with %q", c.name, status, out, errs, c.want)
		}
	}
}
