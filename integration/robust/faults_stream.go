//go:build unix

package robust

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pglockstep/lockstep/internal/pause"
)

// natsKilled kills NATS' process, and starts it again. What it had not synced stays with the machine, which goes on,
// unless its disk is lost meanwhile.
func natsKilled(lost bool) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		err := w.nats.kill()
		if err == nil && lost {
			err = os.RemoveAll(w.nats.cfg.Dir)
		}
		if err != nil {
			return err
		}
		pause.For(ctx, w.outage())
		return w.nats.start(ctx, w)
	}
}

// streamDeleted takes a stream away from under those who follow it: its numbers begin again.
func streamDeleted(ctx context.Context, w *world) error {
	nc, err := nats.Connect(w.nats.url())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := js.DeleteStream(asking, straight); !errors.Is(err, jetstream.ErrStreamNotFound) { // its disk was lost a moment ago
		return err
	}
	return nil
}

// relayKilled kills the relay that leads. Another takes over, and it comes back as one that waits.
func relayKilled(ctx context.Context, w *world) error {
	r, err := w.leader(ctx)
	if err != nil {
		return err
	}
	if err := r.kill(); err != nil {
		return err
	}
	_, err = w.leader(ctx)
	pause.For(ctx, w.outage()/4)
	return errors.Join(err, r.start(w))
}

// relayStopped stops the process of the relay that leads until Postgres has taken the lead from it and another leads, and lets
// it go on with what it had read.
func relayStopped(ctx context.Context, w *world) error {
	r, err := w.leader(ctx)
	if err != nil {
		return err
	}
	if err := r.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	_, err = w.leader(ctx, r)
	pause.For(ctx, w.outage()/4)
	return errors.Join(err, r.signal(syscall.SIGCONT))
}

// relayCutOff drops the packets between Postgres and the relay that leads, whose lock stays.
func relayCutOff(ctx context.Context, w *world) error {
	r, err := w.leader(ctx)
	if err != nil {
		return err
	}
	err = poison(r.proxy, "timeout", `"timeout": 0`)
	pause.For(ctx, w.outage())
	return errors.Join(err, cure(context.WithoutCancel(ctx), r.proxy))
}

// tampered lets the hand between the two streams be crooked for a while.
func tampered(ctx context.Context, w *world) error {
	if err := w.nats.tell(crooked); err != nil {
		return err
	}
	pause.For(ctx, w.outage())
	return w.nats.tell(straight)
}

// streamToxic gives those who follow a stream a bad network to NATS for a while.
func streamToxic(kind, attributes string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) (err error) {
		for _, p := range w.nodes {
			if p.nats != nil {
				err = errors.Join(err, poison(p.nats, kind, attributes))
			}
		}
		pause.For(ctx, w.outage())
		return errors.Join(err, w.heal(ctx))
	}
}
