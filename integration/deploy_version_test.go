package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// nextVersion builds the command as the next version of lockstep will be: its
// schema and its nodes have a number more, and older nodes may still read it.
func nextVersion(t *testing.T) (binary string) {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, edit := range [][3]string{
		{"triggers/options.go", fmt.Sprintf("\tVersion = %d\n", triggers.Version), fmt.Sprintf("\tVersion = %d\n", triggers.Version+1)},
		{"outbox/config.go", fmt.Sprintf("NodeVersion = %d", outbox.NodeVersion), fmt.Sprintf("NodeVersion = %d", outbox.NodeVersion+1)},
	} {
		path, err := filepath.Abs(filepath.Join("..", edit[0]))
		if err != nil {
			t.Fatal(err)
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		next := strings.Replace(string(src), edit[1], edit[2], 1)
		if next == string(src) {
			t.Fatalf("%s has no %q", path, edit[1])
		}
		overlay.Replace[path] = filepath.Join(dir, fmt.Sprint(i, ".go"))
		if err := os.WriteFile(overlay.Replace[path], []byte(next), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	return pgtest.Built(t, "../cmd/node", "-overlay", filepath.Join(dir, "overlay.json"))
}

// serving is a node of the next version, in a process of its own.
type serving struct {
	t   *testing.T
	url string
}

func serve(t *testing.T, binary string, db *pgtest.DB) *serving {
	t.Helper()
	cmd := exec.Command(binary, "serve", "--table", "public.items", "--listen", "127.0.0.1:0", "--name", "next")
	cmd.Env = append(os.Environ(), "LOCKSTEP_DSN="+db.DSN())
	var said strings.Builder
	cmd.Stderr = &said
	in, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // or it has ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the next version's node said:\n%s", said.String())
		}
	})
	line, err := bufio.NewReader(in).ReadString('\n')
	_, url, ok := strings.Cut(strings.TrimSpace(line), " on ")
	if err != nil || !ok {
		t.Fatalf("serve said %q, %v", line, err)
	}
	return &serving{t, url}
}

// get is what it answers.
func (s *serving) get(path string, into any) error {
	s.t.Helper()
	req, err := http.NewRequestWithContext(deadline(s.t), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err //nolint:wrapcheck // a test's own
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into) //nolint:wrapcheck // a test's own
}

// wantRow waits until it is live and has a row.
func (s *serving) wantRow(want item) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("the next version's node is live and has %v", want), func() bool {
		var got item
		var status struct{ State string }
		return s.get(fmt.Sprintf("/v1/tables/public.items/rows/%d", want.ID), &got) == nil && got == want && s.get("/v1/status", &status) == nil && status.State == "live"
	})
}

// docs/deploy.md, "A new version of lockstep": the schema, then the nodes. Both
// versions of a node run on both versions of the schema, and it is upgraded under them.
func TestTwoVersionsOfANodeRunOnOneSchema(t *testing.T) {
	next := nextVersion(t)
	f := newFleet(t, "")
	table := itemTable()
	node := build(t, f, "current", table)
	newer := serve(t, next, f.db) // ahead of the schema
	f.db.Exec(t, "insert into items values (500, 1)")
	newer.wantRow(item{500, 1})

	cmd := exec.CommandContext(deadline(t), next, "install", "--table", "public.items")
	cmd.Env = append(os.Environ(), "LOCKSTEP_DSN="+f.db.DSN())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), fmt.Sprintf("version %d;", triggers.Version+1)) {
		t.Fatalf("the next version's install: %v\n%s", err, out)
	}
	f.writers.turn(t)
	f.writers.stop()
	f.writers.wantHarmless(t)
	f.db.Exec(t, "update items set v = 2 where id = 500")
	newer.wantRow(item{500, 2})
	f.wantItems(t, node, table)
	// What comes later finds the newer schema.
	late := itemTable()
	f.wantItems(t, build(t, f, "late", late), late)
	if err := triggers.Install(deadline(t), f.db.Pool(t), triggers.Options{Logger: silent}, "public.items"); !errors.Is(err, triggers.ErrNewerSchema) {
		t.Errorf("this version's install on the next one's schema: %v", err)
	}
}

// A schema that old nodes cannot read stops them in the middle of a session, by
// name: reads go on, and newer nodes too.
func TestASchemaThatNeedsNewerNodesStopsTheOlderOnesByName(t *testing.T) {
	next := nextVersion(t)
	f := newFleet(t, "")
	f.writers.stop()
	table := itemTable()
	node := build(t, f, "current", table)
	newer := serve(t, next, f.db)
	// What such a version's install does to meta, in the transaction that changes capture.
	f.db.Exec(t, fmt.Sprintf("begin; update lockstep.meta set version = %[1]d, min_node = %[1]d; insert into items values (500, 1); commit", outbox.NodeVersion+1))
	newer.wantRow(item{500, 1})
	until(t, "this version's node says that it is too old", func() bool {
		s := node.Status()
		return s.State == lockstep.Stale && errors.Is(s.LastError, outbox.ErrSchema) && strings.Contains(s.Reason, "deploy a newer node")
	})
	if _, ok := table.Get(500); ok || table.Len() == 0 {
		t.Errorf("it has %d rows, and one that it cannot have read", table.Len())
	}
	_, err := lockstep.Start(deadline(t), f.db.Pool(t), lockstep.Config{Name: "late", Logger: silent}, itemTable())
	if !errors.Is(err, outbox.ErrSchema) {
		t.Errorf("another one of this version starts: %v", err)
	}
	// The newer version is taken back.
	f.db.Exec(t, fmt.Sprintf("update lockstep.meta set version = %d, min_node = %d", triggers.Version, triggers.MinNode))
	until(t, "it goes on", func() bool { _, ok := table.Get(500); return ok && node.Status().State == lockstep.Live })
}
