package lockstep

import (
	"context"

	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// check asks, before each load of a table, whether its capture can be trusted:
// rows that nobody captures would be kept as they are for ever.
func check(schema string) func(ctx context.Context, q outbox.Querier, table string) error {
	return func(ctx context.Context, q outbox.Querier, table string) error {
		return triggers.Check(ctx, q, triggers.Options{Schema: schema}, table)
	}
}
