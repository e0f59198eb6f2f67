package triggers_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// programTables are written by programs: one is captured by statement, and cascades into itself, the other row by row.
const programTables = `
	create table a (id int primary key, v int default 0, up int references a on delete cascade on update cascade, secret text default 'geheim');
	create table part (id int, r int, v int default 0, secret text default 'geheim', primary key (id, r)) partition by list (r);
	create table part_0 partition of part for values in (0); create table part_1 partition of part for values in (1)`

// program is one message of a client's that writes both tables in loops, in functions, in triggers and in blocks that are rolled
// back, at random.
type program struct {
	functions, message string
}

type generator struct {
	*rand.Rand
	calls bool // the functions
}

func newProgram(seed uint64) program {
	p := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	var functions strings.Builder
	for i, table := range []string{"a", "part"} {
		// A function for queries to call, and triggers, of which none goes deeper than one level.
		p.calls = false
		fmt.Fprintf(&functions, "create or replace function f%d(k int) returns int language plpgsql as $f$ begin %s return 0; end $f$;\n", i, p.some(2, "k"))
		p.calls = true
		fmt.Fprintf(&functions, "create or replace function g%d() returns trigger language plpgsql as $f$ declare r record; k int; begin if pg_trigger_depth() > 1 then return null; end if; "+
			"if tg_op = 'DELETE' then r := old; else r := new; end if; k := r.id; %s return null; end $f$;\n", i, p.some(2, "k"))
		if p.IntN(2) == 0 {
			ops := []string{"insert", "update", "delete", "insert or update", "update or delete", "insert or update or delete"}
			// By its name before ours, or behind them.
			fmt.Fprintf(&functions, "create trigger %s after %s on %s for each row execute function g%d();\n", []string{"aaa", "zzz"}[p.IntN(2)], ops[p.IntN(len(ops))], table, i)
		}
	}
	var message strings.Builder
	message.WriteString([]string{"", "", "", "", "", "", "begin isolation level repeatable read; ", "begin isolation level serializable; "}[p.IntN(8)])
	transaction := message.Len() > 0
	for range 1 + p.IntN(2) {
		fmt.Fprintf(&message, "do $do$ begin for k in 1..%d loop %s end loop; end $do$; ", 1+p.IntN(6), p.some(1+p.IntN(4), "k"))
	}
	if transaction {
		message.WriteString("commit")
	}
	return program{functions.String(), message.String()}
}

// some are up to n statements on keys beside k, each of which may fail.
func (p *generator) some(n int, k string) string {
	var b strings.Builder
	for range 1 + p.IntN(n) {
		s := p.statement(k)
		end := "" // or be rolled back
		if p.IntN(5) == 0 {
			end = " raise exception 'no';"
		}
		fmt.Fprintf(&b, "begin %s; %s%s exception when others then null; end; ", s, p.also(k), end)
	}
	return b.String()
}

func (p *generator) also(k string) string {
	if p.IntN(3) > 0 {
		return ""
	}
	return p.statement(k) + ";"
}

func (p *generator) statement(k string) string {
	table, columns, values := "a", "id, v", "%s, %s"
	target := "(id)"
	if p.IntN(3) == 0 {
		table, columns, values, target = "part", "id, r, v", "%s, mod(%[1]s, 2), %[2]s", "(id, r)"
	}
	key := fmt.Sprintf("(%s + %d) %% 7", k, p.IntN(4))
	v := fmt.Sprint(p.IntN(100))
	if p.calls && p.IntN(5) == 0 {
		v = fmt.Sprintf("f%d(%s)", p.IntN(2), k)
	}
	row := fmt.Sprintf(values, key, v)
	switch p.IntN(10) {
	case 0, 1, 2:
		return fmt.Sprintf("insert into %s (%s) values (%s) on conflict do nothing", table, columns, row)
	case 3:
		return fmt.Sprintf("insert into %s (%s) values (%s) on conflict %s do update set v = excluded.v + 1", table, columns, row, target)
	case 4:
		return fmt.Sprintf("delete from %s where id = %s", table, key)
	case 5:
		return fmt.Sprintf("delete from %s where id %% 3 = %d", table, p.IntN(3))
	case 6:
		return fmt.Sprintf("update %s set v = v + %s where id = %s", table, v, key)
	case 7:
		return fmt.Sprintf("update %s set id = (id + 1) %% 7 where id = %s", table, key)
	case 8:
		return fmt.Sprintf("with d as (delete from %s where id = %s returning *) insert into a (id, v) select id + 1, v from d", table, key)
	default:
		return fmt.Sprintf("update a set v = %s, up = %s where id %% 2 = %d", v, []string{"null", "2", "3"}[p.IntN(3)], p.IntN(2))
	}
}

// runs a program where there are two rows of each table, and says what the outbox then says wrongly.
func (r *rig) runs(t *testing.T, conn *pgx.Conn, p program) string {
	t.Helper()
	for _, sql := range []string{
		"drop function if exists f0, f1, g0, g1 cascade; truncate a, part; delete from lockstep.outbox",
		"insert into a values (1, 0, null), (2, 0, 1); insert into part values (1, 1), (2, 0)", p.functions, p.message,
	} {
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
	return r.folded(t)
}

// listsFrom makes capture pack rows into lists from a statement's second on: programs write few rows with each.
var listsFrom = []string{"limit 16", "limit 1", "offset 16", "offset 1", "'{0,16}'", "'{0,1}'", "changed = 16", "changed = 1"}

// fixedPrograms are those that always run.
const fixedPrograms = 150

// Whatever one message of a client's does inside, the outbox says what is there after it.
func TestWhatAProgramWritesIsWhatIsThere(t *testing.T) {
	fresh := uint64(time.Now().UnixNano())
	t.Logf("fresh seeds begin with %d", fresh)
	for name, install := range map[string]func(r *rig){
		"all columns": func(r *rig) { r.install(t, "public.a", "public.part") },
		"lists, from the second row on": func(r *rig) {
			r.install(t, "public.a", "public.part")
			r.change(t, "capture()", listsFrom...)
		},
		"one column is left out": func(r *rig) { r.exclude(t, map[string][]string{"public.a": {"secret"}, "public.part": {"secret"}}) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, programTables)
			install(r)
			conn := r.Conn(t)
			for i := range uint64(fixedPrograms + 20) {
				seed := i
				if i >= fixedPrograms {
					seed = fresh + i - fixedPrograms
				}
				p := newProgram(seed)
				if wrong := r.runs(t, conn, p); wrong != "" {
					t.Fatalf("seed %d: %s\n%s\n%s", seed, wrong, p.functions, p.message)
				}
			}
		})
	}
}

// Each rule of the marks is needed: without it some of the programs go wrong.
func TestEachRuleOfTheMarksIsNeeded(t *testing.T) {
	r := newRig(t, programTables, "public.a", "public.part")
	conn := r.Conn(t)
	for name, rule := range map[string]struct{ function, is, becomes string }{
		"a capture that is not the first reads what is there": {"marked_otherwise(text, text, oid, text)", "RETURN (", "RETURN (false AND "},
		"INSERTs and DELETEs are told apart":                  {"marked_otherwise(text, text, oid, text)", "lockstep.any_kind(note, relid)", "note"},
		"what was captured in two kinds stays so":             {"note_with(text, text, oid, text)", "THEN lockstep.any_kind(note, relid)", "THEN note"},
		"UPDATEs are not trusted among themselves":            {"kind_of(text)", "ELSE ''::text", "ELSE 'U'::text"},
	} {
		t.Run(name, func(t *testing.T) {
			defer r.change(t, rule.function, rule.is, rule.becomes)()
			for seed := range uint64(fixedPrograms) {
				if r.runs(t, conn, newProgram(seed)) != "" {
					t.Logf("seed %d goes wrong", seed)
					return
				}
			}
			t.Error("no program shows why there is this rule")
		})
	}
}
