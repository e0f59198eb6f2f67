package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/natsserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestServeFollowsWhatRelayPublishes(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key)")
	server, err := natsserver.Start(natsserver.Config{Dir: t.TempDir(), Users: []natsserver.User{{Name: "u", Password: "s3cret-word", Publish: []string{">"}, Subscribe: []string{">"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	at := strings.Replace(server.URL(), "nats://", "nats://u:s3cret-word@", 1)
	env := []string{"LOCKSTEP_DSN=" + db.DSN(), "LOCKSTEP_NATS=" + at}
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatalf("install: %d, %q", status, errs)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	relay := exec.CommandContext(ctx, binary, "relay")
	relay.Env = append(os.Environ(), env...)
	var said strings.Builder
	relay.Stderr = &said
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- relay.Wait() }()
	conn := db.Conn(t)
	pgtest.Until(t, 30*time.Second, "the relay leads", func() bool {
		var n int
		return conn.QueryRow(ctx, "select count(*)::int from lockstep.relays").Scan(&n) == nil && n == 1
	})
	serve := exec.CommandContext(ctx, binary, "serve", "--table", "public.a", "--listen", "127.0.0.1:0", "--source", "stream")
	serve.Env = append(os.Environ(), env...)
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, err := out.Read(buf)
	_, address, ok := strings.Cut(strings.TrimSpace(string(buf[:n])), "http://")
	if err != nil || !ok {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	pgtest.Until(t, 30*time.Second, "the node follows the stream", func() bool {
		var status struct{ Bell string }
		err := json.Unmarshal([]byte(get(ctx, t, "http://"+address+"/v1/status")), &status)
		return err == nil && status.Bell == "stream"
	})
	// The node's row comes after its start, and, where it was not on the stream yet, again in a minute.
	pgtest.Until(t, 90*time.Second, "status says that a relay leads and that the node follows the stream", func() bool {
		out, _, status := runCommand(t, env, "status")
		return status == 0 && strings.Contains(out, "a relay leads") && strings.Contains(out, "stream")
	})
	for _, cmd := range []*exec.Cmd{serve, relay} {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("relay: %v, %q", err, said.String())
	}
	if err := serve.Wait(); err != nil {
		t.Errorf("serve: %v", err)
	}
	if strings.Contains(said.String(), "s3cret") {
		t.Errorf("the relay tells its password: %q", said.String())
	}
}

func TestWrongWaysToTheStreamAreNamed(t *testing.T) {
	build(t)
	for want, args := range map[string][]string{
		"needs --source stream":             {"serve", "--table", "public.a", "--nats", "nats://x"},
		"want postgres or stream":           {"serve", "--table", "public.a", "--source", "river"},
		"name a NATS server with --nats":    {"relay"},
		"go together":                       {"relay", "--nats", "nats://x", "--nats-cert", "x.pem"},
		"a stream's name has no space, dot": {"relay", "--nats", "nats://x", "--nats-stream", "a.b"},
		"must be above 0":                   {"relay", "--nats", "nats://x", "--replicas", "0"},
		"want nats://user:password@host":    {"relay", "--nats", "nats://u:p%zz@x"},
	} {
		if _, errs, status := runCommand(t, nil, args...); status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("%v: %d, %q, want %q", args, status, errs, want)
		}
	}
}
