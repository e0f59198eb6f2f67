package main

import (
	"context"
	"os"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
	"github.com/pglockstep/lockstep/cmd/node/internal/window"
	"github.com/pglockstep/lockstep/outbox"
)

// newPage is the page of a served node, which answers beside the others. It must be ended.
func newPage(pool *pgxpool.Pool, schema string, o *serve.Options) *window.Window {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for people only
	}
	w := window.New(window.Config{
		Title:  host,
		Scrub:  scrub,
		Outbox: func(ctx context.Context) (*outbox.Overview, error) { return outbox.Look(ctx, pool, schema) },
	})
	o.Page, o.Static = w, window.Static
	return w
}
