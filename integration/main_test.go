package integration

import (
	"testing"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
