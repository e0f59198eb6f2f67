package lockstep

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep/internal/pause"
	"github.com/pglockstep/lockstep/outbox"
)

// trimEvery is the longest time between two looks at what may be trimmed.
const trimEvery = time.Minute

// trim keeps the outbox to Config.Retention until the node closes. A failure
// is said once and tried again; one of rights ends it, since another node or a
// cron job has them, or nobody was meant to.
func (n *Node) trim(ctx context.Context) {
	o := outbox.TrimOptions{Schema: n.cfg.Schema, KeepAge: n.cfg.Retention, KeepRows: n.cfg.RetentionRows, Turn: true}
	every := min(trimEvery, max(n.cfg.Retention/4, time.Second))
	said := false
	for {
		// Not all nodes at once: they came up together.
		if !pause.For(ctx, every/2+rand.N(every)) {
			return
		}
		done, err := outbox.Trim(ctx, n.pool, o)
		var pgErr *pgconn.PgError
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &pgErr) && pgErr.Code == "42501":
			n.cfg.Logger.Info("this node does not trim the outbox: its role lacks the trimmer's rights", "error", err)
			return
		case err != nil && !said:
			n.cfg.Logger.Warn("cannot trim the outbox", "error", err)
		case done.Deleted > 0:
			n.cfg.Logger.Debug("trimmed the outbox", "events", done.Deleted, "horizon", done.Horizon)
		}
		said = err != nil
	}
}
