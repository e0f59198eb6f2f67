package integration

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // the proxy's own log
	pgtest.Main(m, pgtest.With("max_prepared_transactions", "20"), pgtest.With("deadlock_timeout", "10ms"), pgtest.With("autovacuum_naptime", "1s"))
}
