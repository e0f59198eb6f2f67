package replay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestACutThatReadsTablesIsNotShared(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		reloaded, second := make(chan error, 1), make(chan error, 1)
		shared, err := r.eng.Share(t.Context(), func(context.Context) (string, error) {
			go func() { reloaded <- r.eng.Reload(t.Context(), 0) }()
			go func() {
				_, err := r.eng.Share(t.Context(), func(context.Context) (string, error) {
					t.Error("a snapshot was taken for a cut that reads tables")
					return "", nil
				})
				second <- err
			}()
			synctest.Wait()
			return "name", nil
		})
		if err != nil {
			t.Fatal(err)
		}
		shared.View.Close()
		if err := <-second; !errors.Is(err, ErrNotShared) {
			t.Errorf("the second: %v", err)
		}
		if err := <-reloaded; err != nil {
			t.Error(err)
		}
		r.wantState(Live)
	})
}

func TestWhoeverSharesACutIsAlwaysAnswered(t *testing.T) {
	live(t, Config{}, func(t *testing.T, r *rig) {
		ended, end := context.WithCancel(t.Context())
		_, err := r.eng.Share(ended, func(ctx context.Context) (string, error) {
			end()
			<-ctx.Done() // the engine is not held up by one who has left
			return "", ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("one who left: %v", err)
		}
		r.wantState(Live)
		r.cutOff()
		away, leave := context.WithCancel(t.Context())
		none := func(context.Context) (string, error) { return "", errors.New("nothing can be exported") }
		first, last := make(chan error, 1), make(chan error, 1)
		go func() { _, err := r.eng.Share(away, none); first <- err }()
		go func() { _, err := r.eng.Share(t.Context(), none); last <- err }()
		synctest.Wait()
		leave()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("one who left while the server was away: %v", err)
		}
		if err := r.eng.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-last; !errors.Is(err, ErrClosed) {
			t.Errorf("one who waited: %v", err)
		}
		if _, err := r.eng.Share(t.Context(), none); !errors.Is(err, ErrClosed) {
			t.Errorf("one who came later: %v", err)
		}
	})
}
