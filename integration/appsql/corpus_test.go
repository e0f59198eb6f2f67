package appsql

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/triggers"
)

//go:embed sql
var scripts embed.FS

// The same SQL, plain and with every table captured, with the bell and without it, over either
// protocol, gives the same results, tags, notices and errors, makes the same sessions wait, and leaves the same rows.
func TestTheApplicationsOwnSQLGivesTheSameResults(t *testing.T) {
	names, err := fs.Glob(scripts, "sql/*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(path.Base(name), ".sql"), func(t *testing.T) {
			s := load(t, name)
			for _, h := range []how{{bell: triggers.BellNotify}, {bell: triggers.BellOff, extended: true}} {
				plain, got := playBoth(t, s, h)
				if d := difference(plain, got); len(d) > 0 {
					t.Errorf("%s: captured tables give (+) where plain ones give (-)\n%s", h, strings.Join(d, "\n"))
				}
				t.Logf("%s, %s: %s", path.Base(name), h, figures(plain))
			}
		})
	}
}

// load is one of the scripts; the test is skipped where the server is too old for it.
func load(t *testing.T, name string) *script {
	t.Helper()
	text, err := scripts.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := parse(t, name, string(text))
	if v := pgtest.Server(t).Version(); v < s.from {
		t.Skipf("%s needs server %d and this one is %d: set LOCKSTEP_PG_BIN to a newer one's programs (integration/postgres/install %d)", name, s.from/10000, v/10000, s.from/10000)
	}
	return s
}

// playBoth plays a script on plain tables and then on captured ones.
func playBoth(t *testing.T, s *script, h how) (plain, captured string) {
	t.Helper()
	plain = playSub(t, fmt.Sprintf("plain, %s", h), s, h)
	h.captured = true
	return plain, playSub(t, fmt.Sprintf("captured, %s", h), s, h)
}

// playSub plays in a subtest, whose databases and roles are gone when it returns.
func playSub(t *testing.T, name string, s *script, h how) (transcript string) {
	t.Helper()
	if !t.Run(name, func(t *testing.T) { transcript = play(t, s, h) }) {
		t.FailNow()
	}
	return transcript
}

// figures counts what a transcript compares.
func figures(transcript string) string {
	var statements, rows, errs, notices, waits int
	for line := range strings.Lines(transcript) {
		switch {
		case strings.Contains(line, "> ") && !strings.HasPrefix(line, " "):
			statements++
		case strings.HasPrefix(line, "   ERROR"):
			errs++
		case strings.HasPrefix(line, "   NOTICE"), strings.HasPrefix(line, "   WARNING"):
			notices++
		case strings.HasSuffix(line, "< waits\n"):
			waits++
		case strings.HasPrefix(line, "   "):
			rows++
		}
	}
	return fmt.Sprintf("%d messages, %d lines of results, %d errors, %d notices, %d waits compared", statements, rows, errs, notices, waits)
}

// capture puts capture on every table of the database, in the captured run.
func (p *player) capture(rest string) {
	p.t.Helper()
	if !p.how.captured {
		return
	}
	o := triggers.Options{Bell: p.how.bell, Logger: silent}
	if rest == "without the bell" {
		o.Bell = triggers.BellOff
	}
	refused := strings.Fields(strings.TrimPrefix(rest, "but "))
	pool := p.db.Pool(p.t)
	rows, _ := pool.Query(p.ctx, "select quote_ident(nspname) from pg_namespace where nspname not like 'pg\\_%' and nspname <> 'information_schema'")
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		p.t.Fatal(err)
	}
	var tables []string
	for _, schema := range schemas {
		all, err := triggers.Candidates(p.ctx, pool, o, schema)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, c := range all {
			if len(c.Refused) == 0 {
				tables = append(tables, c.Name)
			} else if !slices.Contains(refused, c.Name) && !isView(c.Refused) {
				p.t.Fatalf("%s is refused, and the script does not say so: %q", c.Name, c.Refused)
			}
		}
	}
	if len(tables) == 0 {
		p.t.Fatal("no table is captured")
	}
	if err := triggers.Install(p.ctx, pool, o, tables...); err != nil {
		p.t.Fatal(err)
	}
}

func isView(reasons []string) bool {
	return slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(r, " view: ") })
}

// leftBehind adds to the transcript what the script leaves: every row and every sequence.
func (p *player) leftBehind() {
	p.t.Helper()
	rows, _ := p.monitor.Query(p.ctx, `select c.oid::regclass::text, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname not like 'pg\_%' and n.nspname not in ('information_schema', 'lockstep') and c.relkind in ('r', 'S', 'm') order by 1`)
	type relation struct{ Name, Kind string }
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range list {
		of := "select whole_row::text from " + r.Name + " whole_row order by 1"
		if r.Kind == "S" {
			of = "select concat(last_value, ' ', is_called) from " + r.Name
		}
		rows, _ := p.monitor.Query(p.ctx, of)
		content, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			p.t.Fatal(err)
		}
		fmt.Fprintf(&p.seen, "left in %s: %d, %x\n", r.Name, len(content), sha256.Sum256([]byte(strings.Join(content, "\n"))))
		for _, row := range content[:min(len(content), 50)] {
			p.seen.WriteString("     " + row + "\n")
		}
	}
	if !p.how.captured {
		return
	}
	// A script that nothing is captured of would show nothing.
	var numbers int64
	err = p.monitor.QueryRow(p.ctx, "select last_value - (not is_called)::int from lockstep.outbox_seq_seq").Scan(&numbers)
	if err != nil || numbers == 0 {
		p.t.Fatal(errors.Join(err, fmt.Errorf("%d events were captured", numbers)))
	}
}

// difference are the lines of two texts that are not in a longest common part, in order, - and + before them.
func difference(was, is string) (out []string) {
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	common := make([][]int, len(a)+1) // the length of the longest common part of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	for len(a) > 0 || len(b) > 0 {
		i, j := len(common)-1-len(a), len(common[0])-1-len(b)
		switch {
		case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
			a, b = a[1:], b[1:]
		case len(a) > 0 && (len(b) == 0 || common[i+1][j] >= common[i][j+1]):
			out, a = append(out, "- "+short(a[0])), a[1:]
		default:
			out, b = append(out, "+ "+short(b[0])), b[1:]
		}
	}
	return out
}

// short is a line as a message shows it.
func short(line string) string {
	line = strings.TrimSpace(line)
	return line[:min(len(line), 160)]
}
