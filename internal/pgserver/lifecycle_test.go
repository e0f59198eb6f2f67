package pgserver

import (
	"errors"
	"testing"
)

func TestStopEndsEveryProcessAndRemovesTheFiles(t *testing.T) {
	for name, mode := range map[string]Mode{"fast": Fast, "immediate": Immediate} {
		t.Run(name, func(t *testing.T) {
			temp := ownTemp(t)
			s := mustStart(t, Config{})
			pids := append(childrenOf(s.PID()), s.PID(), s.guard.cmd.Process.Pid)
			if len(pids) < 5 {
				t.Fatalf("a server of %d processes", len(pids))
			}
			if err := s.Stop(mode); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				if args := commandLine(pid); args != nil {
					t.Errorf("process %d still runs: %v", pid, args)
				}
			}
			mustBeEmpty(t, temp)
			if err := s.Stop(mode); err != nil {
				t.Errorf("stopping twice: %v", err)
			}
			for name, err := range map[string]error{"Halt": s.Halt(Fast), "Kill": s.Kill(), "Restart": s.Restart(t.Context())} {
				if !errors.Is(err, ErrStopped) {
					t.Errorf("%s after Stop: %v, want ErrStopped", name, err)
				}
			}
		})
	}
}

func TestCommittedDataOutlivesEveryWayToGoDown(t *testing.T) {
	s := mustStart(t, Config{})
	execute(t, s, "CREATE TABLE kept AS SELECT 0 AS n")
	for name, down := range map[string]func() error{
		"halt fast":      func() error { return s.Halt(Fast) },
		"halt immediate": func() error { return s.Halt(Immediate) },
		"kill":           s.Kill,
		"none":           func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			execute(t, s, "UPDATE kept SET n = n + 1")
			before := query(t, s.DSN("postgres"), "SELECT n::text FROM kept")
			pid, port := s.PID(), s.Port()
			family := append(childrenOf(pid), pid)
			if err := down(); err != nil {
				t.Fatal(err)
			}
			for _, p := range family {
				if name != "none" && commandLine(p) != nil {
					t.Errorf("process %d still runs", p)
				}
			}
			if name != "none" && s.PID() != 0 {
				t.Errorf("process id %d while it does not run", s.PID())
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.PID() == pid || s.Port() != port {
				t.Errorf("process %d at port %d, before: %d at %d", s.PID(), s.Port(), pid, port)
			}
			if got := query(t, s.DSN("postgres"), "SELECT n::text FROM kept"); got != before {
				t.Errorf("the row says %s, before: %s", got, before)
			}
		})
	}
}

func TestKillEndsABackendThatIsBusy(t *testing.T) {
	s := mustStart(t, Config{})
	execute(t, s, "CREATE TABLE started ()")
	busy := make(chan error, 1)
	go func() {
		// It never looks at its latch, so it would outlive its postmaster.
		busy <- runQuery(s, "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 10000000) b")
	}()
	awaitTrue(t, "the query runs", func() bool {
		return query(t, s.DSN("postgres"), "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%10000000)%' AND pid <> pg_backend_pid()") == "1"
	})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-busy; err == nil {
		t.Error("the query ended without an error")
	}
	if err := s.Kill(); err != nil {
		t.Errorf("killing what does not run: %v", err)
	}
}
