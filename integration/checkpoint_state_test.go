package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/checkpoint"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/internal/rowmap"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/replay"
)

// rowsIn reads the rows of table items out of a checkpoint, and its position.
func rowsIn(t *testing.T, dir, name string) (map[int]item, outbox.Position) {
	t.Helper()
	s := checkpoint.New(dir, name)
	defer func() { _ = s.Close() }()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var head struct {
		Position outbox.Position
		Tables   []struct{ replay.Plan }
	}
	if err := json.Unmarshal(r.Head(), &head); err != nil {
		t.Fatal(err)
	}
	field := func(name string) pgconn.FieldDescription {
		return pgconn.FieldDescription{Name: name, DataTypeOID: pgtype.Int4OID, Format: pgtype.BinaryFormatCode}
	}
	coder := rowmap.NewCoder(pgtype.NewMap(), []pgconn.FieldDescription{field("id"), field("v")})
	found := map[int]item{}
	for {
		_, rows, check, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found, head.Position
		}
		if err == nil {
			err = check()
		}
		if err == nil {
			err = replay.EncodedRows(rows).Each(func(src []byte) error {
				src, err := head.Tables[0].Unplaced(src)
				if err != nil {
					return err
				}
				row, err := coder.Row(src)
				var i item
				if err == nil {
					err = row.Scan(&i.ID, &i.V)
				}
				found[i.ID] = i
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// fold is what the events that a position covers make of rows.
func fold(t *testing.T, db *pgtest.DB, rows map[int]item, at outbox.Position) {
	t.Helper()
	type event struct {
		Xid uint64
		Op  string
		Row item
	}
	list, _ := db.Pool(t).Query(deadline(t), `select o.xid, o.op::text, d.doc from lockstep.outbox o,
		json_array_elements(case json_typeof(o.row) when 'array' then o.row else json_build_array(o.row) end) with ordinality d (doc, part) order by o.seq, d.part`) // CollectRows has its error
	events, err := pgx.CollectRows(list, pgx.RowToStructByPos[event])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		switch {
		case !at.Covers(e.Xid):
		case e.Op == "D":
			delete(rows, e.Row.ID)
		case e.Op == "T":
			clear(rows)
		default:
			rows[e.Row.ID] = e.Row
		}
	}
}

// Checkpoints are taken of a node that applies what four writers do. Each is
// the state at its position, and a node that begins with it ends where the database is.
func TestACheckpointTakenUnderTrafficIsTheStateAtItsPosition(t *testing.T) {
	db := fresh(t)
	items(t, db)
	initial := itemsOf(t, db)
	k := newKeeper(t, db)
	table := itemTable()
	node, err := lockstep.Start(deadline(t), k.pool, lockstep.Config{Name: k.name, Checkpoint: k.dir, CheckpointEvery: 5 * time.Millisecond, Logger: silent, Retention: -1}, table)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		conn := db.Conn(t)
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				sql := []string{
					"update items set v = v + 1 where id between $1 and $1 + 20", "delete from items where id = $1",
					"insert into items values ($1, 7) on conflict (id) do update set v = excluded.v", "insert into items values (1000 + $1, 1) on conflict do nothing",
				}[n%4]
				if _, err := conn.Exec(context.Background(), sql, (w*37+n*13)%100+1); err != nil && sqlState(err) != "40P01" {
					t.Error(err)
					return
				}
			}
		})
	}
	seen := map[string]bool{}
	var copies []string
	until(t, "twelve checkpoints and three thousand events", func() bool {
		at, n := node.Status().Checkpoint.Position.String(), node.Status().Events
		if at == "" || seen[at] || n < uint64(250*(len(copies)+1)) {
			return false
		}
		seen[at] = true
		dir := filepath.Join(t.TempDir(), fmt.Sprint(len(copies)))
		copyCheckpoint(t, k, dir)
		copies = append(copies, dir)
		return len(copies) == 12
	})
	events := node.Status().Events
	close(stop)
	writers.Wait()
	barrier(t, node)
	wantSame(t, db, table)
	k.stop(node)
	for _, dir := range append(copies, k.dir) {
		got, at := rowsIn(t, dir, k.name)
		want := maps.Clone(initial)
		fold(t, db, want, at)
		if !maps.Equal(got, want) {
			t.Errorf("the checkpoint at %v holds %d rows, the log folded up to there gives %d others", at, len(got), len(want))
		}
		k.dir = dir
		k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
			if !s.Checkpoint.Restored || len(s.Loads) != 0 {
				t.Errorf("%+v", s.Checkpoint)
			}
			wantSame(t, db, table)
		})
	}
	t.Logf("%d checkpoints compared, %d events applied meanwhile", len(copies)+1, events)
}

// copyCheckpoint copies the file that is there now, as a kill would leave it.
func copyCheckpoint(t *testing.T, k *keeper, dir string) {
	t.Helper()
	b, err := os.ReadFile(checkpoint.New(k.dir, k.name).Path())
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(checkpoint.New(dir, k.name).Path(), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// childDSN and childDir tell a child process what to keep, and where.
const childDSN, childDir = "LOCKSTEP_TEST_CHILD_DSN", "LOCKSTEP_TEST_CHILD_DIR"

// TestAsAChildThatKeepsCheckpoints is the child of the test below. It writes
// one checkpoint after another until it is killed.
func TestAsAChildThatKeepsCheckpoints(t *testing.T) {
	dsn := os.Getenv(childDSN)
	if dsn == "" {
		return // this is not the child
	}
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg := lockstep.Config{Name: "child", Checkpoint: os.Getenv(childDir), CheckpointEvery: time.Millisecond, Logger: silent, Register: -1, Retention: -1}
	if _, err := lockstep.Start(t.Context(), pool, cfg, itemTable()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("\nstarted")
	<-t.Context().Done()
}

// child is a process that keeps checkpoints of table items.
func child(t *testing.T, db *pgtest.DB, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(deadline(t), os.Args[0], "-test.run=^TestAsAChildThatKeepsCheckpoints$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), childDSN+"="+db.DSN(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "started" {
			return cmd
		}
	}
	t.Fatal("the child has not started")
	return nil
}

func TestAProcessThatIsKilledWhileItWritesLeavesAWholeCheckpointOrNone(t *testing.T) {
	db := fresh(t)
	db.Exec(t, "create table items (id int primary key, v int not null); insert into items select i, 0 from generate_series(1, 20000) i")
	install(t, db, "public.items")
	k := newKeeper(t, db)
	k.name = "child"
	warm := 0
	for round := range 6 {
		cmd := child(t, db, k.dir)
		n := 0
		until(t, "a checkpoint on its way", func() bool {
			n++
			db.Exec(t, "update items set v = v + 1 where id % 100 = $1", (round*7+n)%100)
			list, err := filepath.Glob(filepath.Join(k.dir, "*.tmp"))
			return err == nil && len(list) > 0 && n > round
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		db.Exec(t, "update items set v = v + 1 where id = 5")
		k.once(func(s lockstep.Status, table *lockstep.Table[int, item]) {
			if s.Checkpoint.Refused != "" || s.Checkpoint.Restored != (len(s.Loads) == 0) {
				t.Errorf("%+v, %+v", s.Checkpoint, s.Loads)
			}
			if s.Checkpoint.Restored {
				warm++
			}
			wantSame(t, db, table)
		})
		entries, err := os.ReadDir(k.dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("round %d: the directory holds %v (%v), want the file and its lock", round, entries, err)
		}
	}
	t.Logf("%d of 6 began with a checkpoint", warm)
	if warm < 5 {
		t.Error("checkpoints were lost")
	}
}
