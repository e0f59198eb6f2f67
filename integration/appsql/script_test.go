package appsql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A script is SQL as psql reads it, with comments that say more:
//
//	-- roles app_owner app_reader        roles that the run makes and drops again
//	-- from 150000                       the oldest server that knows this SQL
//	-- capture                           here install puts capture on every table
//	-- capture but public.x              ... but those, which it refuses
//	-- capture without the bell
//	-- session b                         what follows is another session's
//	-- session b as app_reader           ... of another role
//	-- to the end                        the next statement is waited for, whatever it waits for
//	-- hears                             the session takes one notification
//	-- bind 1 | x                        the next statement's parameters
//
// As with psql, \; joins statements into one message, and rows of COPY FROM STDIN end with \.
type script struct {
	name  string
	from  int
	roles []string
	steps []step
}

// step is one thing to do.
type step struct {
	kind    stepKind
	session string
	role    string
	sql     string
	joined  bool     // several statements in one message
	binds   []string // parameters
	data    string   // rows of COPY FROM STDIN
	toEnd   bool
}

type stepKind int

const (
	runs stepKind = iota
	hears
	captures
	opens
)

var copyIn = regexp.MustCompile(`(?is)^\s*copy\b.*\bfrom\s+stdin\b`)

var copyOut = regexp.MustCompile(`(?is)^\s*copy\b.*\bto\s+stdout\b`)

// parse reads a script.
func parse(t *testing.T, name, text string) *script {
	t.Helper()
	p := &parser{t: t, script: &script{name: name}, session: "a"}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if p.sql == "" && strings.HasPrefix(line, "-- ") && p.directive(strings.TrimPrefix(line, "-- ")) {
			continue
		}
		if p.sql == "" && (strings.HasPrefix(line, "--") || strings.TrimSpace(line) == "") {
			continue
		}
		p.sql += line + "\n"
		if !ends(p.sql) {
			continue
		}
		s := p.statement()
		if copyIn.MatchString(s.sql) {
			for i++; lines[i] != `\.`; i++ {
				s.data += lines[i] + "\n"
			}
		}
		p.script.steps = append(p.script.steps, s)
	}
	if p.sql != "" {
		t.Fatalf("%s: the last statement does not end: %s", name, p.sql)
	}
	return p.script
}

type parser struct {
	t       *testing.T
	script  *script
	session string
	sql     string
	binds   []string
	toEnd   bool
}

func (p *parser) directive(d string) bool {
	word, rest, _ := strings.Cut(d, " ")
	switch {
	case word == "roles":
		p.script.roles = strings.Fields(rest)
	case word == "from":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return false // prose
		}
		p.script.from = n
	case d == "capture" || strings.HasPrefix(d, "capture but ") || d == "capture without the bell":
		p.script.steps = append(p.script.steps, step{kind: captures, sql: rest})
	case word == "session":
		name, role, _ := strings.Cut(rest, " as ")
		p.session = name
		p.script.steps = append(p.script.steps, step{kind: opens, session: name, role: role})
	case d == "to the end":
		p.toEnd = true
	case d == "hears":
		p.script.steps = append(p.script.steps, step{kind: hears, session: p.session})
	case word == "bind":
		p.binds = strings.Split(rest, " | ")
	default:
		return false
	}
	return true
}

func (p *parser) statement() step {
	sql := strings.TrimSuffix(strings.TrimSpace(p.sql), ";")
	s := step{session: p.session, sql: strings.ReplaceAll(sql, `\;`, ";"), joined: strings.Contains(sql, `\;`), binds: p.binds, toEnd: p.toEnd}
	p.sql, p.binds, p.toEnd = "", nil, false
	return s
}

var quoted = regexp.MustCompile(`(?s)'[^']*'|"[^"]*"|--[^\n]*|/\*.*?\*/`)

var dollar = regexp.MustCompile(`\$\w*\$`)

// ends reports whether the text so far is whole statements: a semicolon at the end, outside of quotes.
func ends(sql string) bool {
	for {
		at := dollar.FindStringIndex(sql)
		if at == nil {
			break
		}
		tag := sql[at[0]:at[1]]
		end := strings.Index(sql[at[1]:], tag)
		if end < 0 {
			return false
		}
		sql = sql[:at[0]] + "''" + sql[at[1]+end+len(tag):]
	}
	rest := strings.TrimSpace(quoted.ReplaceAllString(sql, "x"))
	return strings.HasSuffix(rest, ";") && !strings.HasSuffix(rest, `\;`) && !strings.Contains(rest, "'")
}

func TestAScriptIsReadAsPsqlReadsIt(t *testing.T) {
	s := parse(t, "x", "-- roles r s\n-- A comment; with a semicolon\nselect ';',\n $$ ; $$;\nselect 1\\; select 2;\n-- session b as r\n-- to the end\n"+
		"-- bind 1 | x\nselect $1;\ncopy t from stdin;\n1\tx;\n\\.\nselect '\n;';\n-- capture but public.x\n")
	want := "[r s] [{0 a  select ';',\n $$ ; $$ false []  false} {0 a  select 1; select 2 true []  false} {3 b r  false []  false}" +
		" {0 b  select $1 false [1 x]  true} {0 b  copy t from stdin false [] 1\tx;\n false} {0 b  select '\n;' false []  false} {2   but public.x false []  false}]"
	if got := fmt.Sprint(s.roles, " ", s.steps); got != want {
		t.Errorf("read as\n%s\nwant\n%s", got, want)
	}
}
