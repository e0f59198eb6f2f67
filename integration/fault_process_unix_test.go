//go:build unix

package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
)

// said is a line that faultnode prints.
type said struct {
	At, Now                             int64
	Change                              *int
	State, Reason, LastError            string
	V, Rows                             int
	Fetches, Sessions, Failures, Unrung uint64
	Loads                               []string
	StaleMicros                         int64
}

// process is a node in a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.Closer
	done chan struct{}

	mu      sync.Mutex
	samples []said
	changes []int
}

// built is the program of the process.
func built(t *testing.T, args ...string) (program string) {
	t.Helper()
	return pgtest.Built(t, "./faultnode", args...)
}

func launch(t *testing.T, program, dsn string, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program), done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "LOCKSTEP_DSN="+dsn), env...)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.in = in
	go p.listen(out)
	t.Cleanup(p.end)
	until(t, "the process follows", func() bool { return p.last().State == "live" })
	return p
}

func (p *process) listen(out io.Reader) {
	defer close(p.done)
	for lines := json.NewDecoder(bufio.NewReader(out)); ; {
		var s said
		if err := lines.Decode(&s); err != nil {
			return // it has ended
		}
		p.mu.Lock()
		if s.Change != nil {
			p.changes = append(p.changes, *s.Change)
		} else {
			p.samples = append(p.samples, s)
		}
		p.mu.Unlock()
	}
}

// end lets the process end by itself, and must see it end well.
func (p *process) end() {
	_ = p.in.Close()
	late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.done
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the process: %v", err)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// last is the newest of what it said; the zero value before it said anything.
func (p *process) last() (s said) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.samples); n > 0 {
		s = p.samples[n-1]
	}
	return s
}

func (p *process) all() (samples []said, changes []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.samples), slices.Clone(p.changes)
}

// seen waits until the process has a value in row 1.
func (p *process) seen(v int) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("the process has %d", v), func() bool { return p.last().V >= v })
}

// book is what was committed when, by the machine's clock.
type book struct {
	conn *pgx.Conn
	at   []int64 // by value, from 1
}

func (b *book) write(t *testing.T, n int) {
	t.Helper()
	for range n {
		do(t, b.conn, "update items set v = $1 where id = 1", len(b.at)+1)
		b.at = append(b.at, time.Now().UnixMicro())
	}
}

// honest checks that each sample which says live holds whatever was committed
// MaxStale before, and that nobody was told nonsense. It returns how many say live.
func (b *book) honest(t *testing.T, samples []said) (live int) {
	t.Helper()
	due, before := 0, said{}
	for _, s := range samples {
		for due < len(b.at) && b.at[due] < s.At-maxStale.Microseconds() {
			due++
		}
		switch {
		case s.State == "live" && s.V < due:
			t.Errorf("it says live, and has %d where %d was committed more than %v before", s.V, due, maxStale)
		case s.State == "live" && (s.StaleMicros > maxStale.Microseconds() || s.Reason != ""):
			t.Errorf("it says live %d microseconds after its last fetch, because of %q", s.StaleMicros, s.Reason)
		case s.State != "live" && s.Reason == "":
			t.Errorf("it says %s without a reason", s.State)
		case s.V < before.V || s.Rows != 100:
			t.Errorf("it went from %d to %d, with %d rows", before.V, s.V, s.Rows)
		case s.StaleMicros < 0:
			t.Errorf("it is %d microseconds behind", s.StaleMicros)
		}
		if s.State == "live" {
			live++
		}
		before = s
	}
	return live
}

func trimEverything(t *testing.T, db *pgtest.DB) {
	t.Helper()
	r, err := outbox.Trim(deadline(t), db.Pool(t), outbox.TrimOptions{KeepAge: time.Nanosecond, Spare: -1, KeepNewest: 1})
	if err != nil || r.Deleted == 0 {
		t.Fatalf("trimmed %+v, %v", r, err)
	}
}

// A process that was stopped, and goes on after an hour, does not know that it
// was. It never calls its old state live, and says what became of its position.
func TestANodeThatWasStoppedAndContinuedNeverCallsItsOldStateLive(t *testing.T) {
	program := built(t)
	for name, c := range map[string]struct {
		trimmed bool
		loads   []string
	}{
		"and its position is still there":   {false, []string{"first load"}},
		"and its position has been trimmed": {true, []string{"first load", "trimmed"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			items(t, db)
			p := launch(t, program, db.DSN())
			b := &book{conn: db.Conn(t)}
			b.write(t, 20)
			p.seen(20)

			p.signal(syscall.SIGSTOP)
			var status syscall.WaitStatus
			if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
				t.Fatalf("the process is not stopped: %v, %v", status, err)
			}
			stopped := time.Now().UnixMicro()
			b.write(t, 50)
			if c.trimmed {
				trimEverything(t, db)
			}
			until(t, "what it has is too old to be live", func() bool { return time.Now().UnixMicro()-b.at[20] > 2*maxStale.Microseconds() })
			continued := time.Now().UnixMicro()
			p.signal(syscall.SIGCONT)
			p.seen(70)
			b.write(t, 20)
			p.seen(90)
			until(t, "the process says that it is live", func() bool { return p.last().State == "live" })
			until(t, "its subscriber has heard", func() bool { _, c := p.all(); return len(c) > 0 && c[len(c)-1] == 90 })
			samples, changes := p.all()
			live, last := b.honest(t, samples), p.last()
			if i := slices.IndexFunc(samples, func(s said) bool { return s.At > stopped && s.At < continued }); i >= 0 {
				t.Errorf("while it was stopped it said %+v", samples[i])
			}
			t.Logf("%d samples, %d live; %d fetches, %d sessions, loads %v, last error %q", len(samples), live, last.Fetches, last.Sessions, last.Loads, last.LastError)
			if !slices.Equal(last.Loads, c.loads) {
				t.Errorf("loads %v, want %v", last.Loads, c.loads)
			}
			if !c.trimmed {
				want := make([]int, 90)
				for i := range want {
					want[i] = i + 1
				}
				if !slices.Equal(changes, want) {
					t.Errorf("a subscriber saw %v", changes)
				}
			} else if !slices.IsSorted(changes) || len(slices.Compact(slices.Clone(changes))) != len(changes) || len(changes) < 20+1+20 {
				t.Errorf("a subscriber saw %v", changes) // what the load brought in one, all else one by one
			}
		})
	}
}
