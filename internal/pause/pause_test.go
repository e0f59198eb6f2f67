package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pglockstep/lockstep/internal/pause"
)

func TestAPauseEndsWithItsTimeOrItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if !pause.For(ctx, 40*time.Second) || time.Since(began) != 40*time.Second {
			t.Errorf("a pause of 40 s took %v", time.Since(began))
		}
		if pause.For(ctx, time.Hour) || time.Since(began) != time.Minute {
			t.Errorf("cut short after a minute, it took %v", time.Since(began))
		}
	})
}
