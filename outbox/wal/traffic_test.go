package wal_test

import (
	"context"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

// traffic is what the log's reader is sent.
type traffic struct{ messages, bytes int }

// wire reads the publication as the bell does.
func (r *rig) wire(t *testing.T) *pgconn.PgConn {
	t.Helper()
	cfg, err := pgconn.ParseConfig(r.DSN())
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close(context.Background())
		r.dropped(t, "traffic_"+r.Name)
	})
	_, err = pglogrepl.CreateReplicationSlot(t.Context(), conn, "traffic_"+r.Name, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: true, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	if err != nil {
		t.Fatal(err)
	}
	err = pglogrepl.StartReplication(t.Context(), conn, "traffic_"+r.Name, 0, pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", `publication_names '"lockstep_bell"'`}})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// dropped waits until a slot is gone: a database that has one cannot be dropped.
func (r *rig) dropped(t *testing.T, slot string) {
	t.Helper()
	until(t, "the slot is gone", func() bool {
		var n int
		err := r.pool.QueryRow(context.Background(), "select count(*)::int from pg_replication_slots where slot_name = $1", slot).Scan(&n)
		return err == nil && n == 0
	})
}

// upToCommit counts what comes up to the end of the next transaction with a change.
func upToCommit(t *testing.T, conn *pgconn.PgConn) (n traffic) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for changed := false; ; {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			t.Fatal(err)
		}
		n.messages++
		n.bytes += len(data.Data) + 5 // the message's own head
		switch pglogrepl.MessageType(x.WALData[0]) {
		case pglogrepl.MessageTypeInsert:
			changed = true
		case pglogrepl.MessageTypeCommit:
			if changed {
				return n
			}
		}
	}
}

func TestAServerFromVersion15OnSendsOneNumberOfATransactionHoweverManyRowsItHas(t *testing.T) {
	r := newRig(t, pgtest.New(t))
	conn := r.wire(t)
	r.Exec(t, "insert into a values (0, 'x')")
	small := upToCommit(t, conn) // with the table's description
	const rows = 10_000
	r.Exec(t, "insert into a select i, repeat('x', 100) from generate_series(1, 10000) i")
	large := upToCommit(t, conn)
	var events int
	if err := r.Pool(t).QueryRow(t.Context(), "select count(*) - 1 from lockstep.outbox").Scan(&events); err != nil {
		t.Fatal(err)
	}
	t.Logf("PostgreSQL %d: a transaction of 1 row: %d messages, %d bytes; of %d rows, in %d of the outbox: %d messages, %d bytes",
		r.Server().Version()/10000, small.messages, small.bytes, rows, events, large.messages, large.bytes)
	switch filtered := r.Server().Version() >= 150000; {
	case filtered && (large.messages > small.messages || large.bytes > 1000):
		t.Errorf("%d messages, %d bytes, as if nothing were filtered", large.messages, large.bytes)
	case !filtered && large.messages < events:
		t.Errorf("version 14 filters by now: %d messages", large.messages)
	}
}
