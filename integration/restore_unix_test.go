//go:build unix

package integration

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/internal/pgtest"
	"github.com/pglockstep/lockstep/replay"
)

// A cluster is restored from a base backup, to the backup itself or to a point
// in time after it, and goes on from there with the ids and numbers that
// others had. A node that has applied what came later loads the difference.
func TestARestoreToAPointInTimeLeadsToADifferenceAndNoMore(t *testing.T) {
	for name, target := range map[string]string{
		"a point after the backup": "recovery_target_name = 'here'",
		"the backup itself":        "recovery_target = 'immediate'",
	} {
		t.Run(name, func(t *testing.T) {
			settings := []pgtest.Option{pgtest.Trust, pgtest.Small, pgtest.With("autovacuum", "off"), pgtest.With("wal_keep_size", "1GB")}
			c, other := own(t, settings...), pgtest.Own(t, settings...)
			db := c.New(t)
			items(t, db)
			pool, proxy := proxied(t, db)
			node, table := quiet(t, pool)
			readers(t, node, table)
			conn := db.Conn(t)
			move(t, conn, 1, 2, 5)
			other.BecomeCopy(t, c, fmt.Sprintf("restore_command = 'cp \"%s/%%f\" \"%%p\"'\n%s\nrecovery_target_action = 'promote'\n",
				filepath.Join(c.DataDir(), "pg_wal"), target))
			other.Give(t, "recovery.signal", nil)
			move(t, conn, 3, 4, 6)
			run(t, conn, "select pg_create_restore_point('here')")
			move(t, conn, 5, 6, 7)
			run(t, conn, "insert into items values (200, 0)")
			barrier(t, node)
			lost, had := lastXid(t, conn), held(table)
			changes := subscribe(t, table)

			proxy.Stop()
			if err := c.Halt(pgserver.Fast); err != nil {
				t.Fatal(err)
			}
			if err := other.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			there := other.Has(db)
			until(t, "the restored server takes writes", func() bool {
				var recovering bool
				return there.Conn(t).QueryRow(deadline(t), "select pg_is_in_recovery()").Scan(&recovering) == nil && !recovering
			})
			if restored := itemsOf(t, there); (restored[3].V != 0) != (name == "a point after the backup") || restored[5].V != 0 {
				t.Fatalf("restored were %v and %v", restored[3], restored[5])
			}
			moveUpTo(t, there, lost)
			proxy.Upstream = other.Addr()
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
			barrier(t, node)
			wantResync(t, node, replay.AnchorMissing)
			wantSame(t, there, table)
			wantTold(t, there, changes, had)
		})
	}
}
