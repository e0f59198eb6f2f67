//go:build unix

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestDemoThatIsInterruptedGivesItsAccountAndLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--duration", "60s", "--nodes", "2")
	r.until("node-2 has loaded")
	mustWork(t, tmp, "demo-node --name node-1", "demo-node --name node-2", "postgres -D", "guard.sh", "idle")
	r.until("transactions a second")
	r.wantAccount(t, tmp)
}

// wantAccount interrupts a demo that has begun: it says what it has found, and leaves nothing.
func (r *running) wantAccount(t *testing.T, tmp string) {
	t.Helper()
	r.interrupt()
	if status, said := r.end(); status != 0 || !strings.Contains(said, "every node holds exactly what Postgres holds") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	wantNothing(t, tmp)
}

func TestDemoThatIsInterruptedInAnOutageGivesItsAccountAndLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--duration", "3s", "--nodes", "2")
	r.until("has lost its way")
	r.wantAccount(t, tmp)
}

func TestDemoThatIsInterruptedBeforeItBeganSaysSoAndLeavesNothing(t *testing.T) {
	build(t)
	for name, reached := range map[string]func(*running, string){
		"while initdb runs": func(_ *running, tmp string) {
			poll(t, func() bool {
				inside, _ := filepath.Glob(filepath.Join(tmp, "*", "data", "*")) // the pattern is good
				return len(inside) > 0
			})
		},
		"once Postgres runs":  func(r *running, _ string) { r.until("a private PostgreSQL") },
		"while a node starts": func(r *running, _ string) { r.until("departments and employees are there") },
		"before the last one": func(r *running, _ string) { r.until("node-1 has loaded") },
	} {
		t.Run(name, func(t *testing.T) {
			tmp := temporary(t)
			r := startDemo(t, tmp, "--duration", "60s", "--nodes", "12") // so many that it has not begun
			reached(r, tmp)
			r.interrupt()
			status, said := r.end()
			if status != 1 || !strings.HasSuffix(said, "\nlockstep: interrupted\n") && said != "lockstep: interrupted\n" {
				t.Errorf("exit status %d\n%s", status, said)
			}
			wantNothing(t, tmp)
		})
	}
}

func TestFannedOutDemoOutlivesNATSAndLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--fanout", "--once", "--duration", "3s", "--nodes", "2")
	r.until("a relay publishes the log")
	status, said := r.end()
	for _, want := range []string{"without NATS every node follows Postgres directly", "every node has returned to the stream by itself", "over NATS: the relay published", "every node holds exactly what Postgres holds"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if status != 0 || t.Failed() {
		t.Errorf("exit status %d\n%s", status, said)
	}
	wantNothing(t, tmp)
}

func TestFannedOutDemoThatIsInterruptedWithoutNATSGivesItsAccountAndLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--fanout", "--duration", "3s", "--nodes", "2")
	r.until("a relay publishes the log")
	mustWork(t, tmp, "demo-broker", "postgres -D")
	r.until("NATS is down")
	r.wantAccount(t, tmp)
}

// By its button NATS comes back, and the nodes to it; killed it does not, and they go on without.
func TestFannedOutDemoWhoseNATSIsKilledGoesOnAndLeavesNothing(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--fanout", "--duration", "60s", "--nodes", "2")
	r.until("transactions a second")
	page := &serving{url: strings.TrimSuffix(pageAddress.FindStringSubmatch(r.said.String())[1], "/")}
	if status, body := page.ask(t, "POST", "/window/do/drought", "", ""); status != 200 || !strings.Contains(body, "returned to the stream") {
		t.Errorf("the button: %d %q", status, body)
	}
	r.until("every node has returned")
	broker := pidOf(mustWork(t, tmp, "demo-broker"), "demo-broker")
	if broker == 0 {
		t.Skip("without /proc the NATS server is not found")
	}
	if err := syscall.Kill(broker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until("follows Postgres directly")
	r.wantAccount(t, tmp)
}

// A killed demo cannot clean up: its guard does, its nodes and its NATS server end with their input.
func TestDemoThatIsKilledLeavesNothingToTheNext(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--fanout", "--duration", "60s", "--nodes", "2")
	r.until("transactions a second")
	mustWork(t, tmp, "demo-node --name node-2", "demo-broker", "postgres -D", "guard.sh")
	r.kill()
	next := startDemo(t, tmp, "--duration", "3s", "--nodes", "1", "--once")
	if status, said := next.end(); status != 0 {
		t.Errorf("the next demo: exit status %d\n%s", status, said)
	}
	awaitNothing(t, tmp)
}

// Where the guard was killed as well, the next demo does its work before it has
// a server of its own.
func TestDemoThatIsKilledWithItsGuardIsCleanedUpBehindByTheNext(t *testing.T) {
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--duration", "60s", "--nodes", "1")
	r.until("transactions a second")
	first := mustWork(t, tmp, "postgres -D", "guard.sh")
	if len(first) == 0 {
		t.Skip("without /proc the guard is not found")
	}
	remains, server := files(t, tmp), pidOf(first, "postgres -D")
	if err := syscall.Kill(pidOf(first, "guard.sh"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.kill()
	if pidOf(processes(t, tmp), "postgres -D") != server {
		t.Fatal("the server has ended by itself: this test shows nothing")
	}
	next := startDemo(t, tmp, "--duration", "60s", "--nodes", "1")
	next.until("a private PostgreSQL")
	for _, dir := range files(t, tmp) {
		if slices.Contains(remains, dir) {
			t.Errorf("the next demo runs beside %s", dir)
		}
	}
	if slices.ContainsFunc(processes(t, tmp), func(p process) bool { return p.pid == server }) {
		t.Error("the next demo runs beside the first one's server")
	}
	next.interrupt()
	if status, said := next.end(); status != 1 {
		t.Errorf("the next demo: exit status %d\n%s", status, said)
	}
	awaitNothing(t, tmp)
}
