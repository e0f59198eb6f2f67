package wal_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/outbox/wal"
)

// envChild makes the test below run as the node that is killed.
const envChild = "LOCKSTEP_WAL_CHILD"

func TestNothingIsLeftOnTheServerWhenTheProcessIsKilled(t *testing.T) {
	if dsn := os.Getenv(envChild); dsn != "" {
		child(t, dsn)
		return
	}
	r := newRig(t, pgtest.New(t))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), envChild+"="+r.DSN())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	conn := r.Conn(t)
	n := one[int](t, conn, "select count(*)::int from pg_replication_slots where database = current_database()")
	_ = cmd.Process.Kill() // or it has ended
	_ = cmd.Wait()
	if err != nil || strings.TrimSpace(said) != "wal" || n != 1 {
		t.Fatalf("the child says %q, %v, and there are %d slots", said, err, n)
	}
	r.nothingLeft(t)
}

func child(t *testing.T, dsn string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	src, err := outbox.NewSource(outbox.Config{Pool: pool, WAL: wal.Bell{}, Bell: outbox.BellWAL, ProveWithin: limit, Tables: []outbox.TableSpec{{Name: "public.a"}}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString(s.Bell() + "\n") // the parent reads it
	waiting, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	<-waiting.Done() // to be killed
}
