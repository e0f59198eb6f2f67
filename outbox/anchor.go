package outbox

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

func xids(anchors []Anchor) []uint64 {
	out := make([]uint64, len(anchors))
	for i, a := range anchors {
		out[i] = a.Xid
	}
	return out
}

func seqs(anchors []Anchor) []int64 {
	out := make([]int64, len(anchors))
	for i, a := range anchors {
		out[i] = a.Seq
	}
	return out
}

func times(anchors []Anchor) []time.Time {
	out := make([]time.Time, len(anchors))
	for i, a := range anchors {
		out[i] = a.At
	}
	return out
}

// closeConn ends a connection without waiting long for a server that is gone.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // it is over either way
}
