package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep/internal/pause"
)

// Doorbell is a bell that only those programs link that name it: wal.Bell.
type Doorbell interface {
	// Hang puts the bell up and returns once it rings at every commit that is
	// still to come, which may take as long as the transactions take that are in
	// flight; ctx bounds it, not the bell. An error that wraps ErrBellRefused
	// says that the server answers and this bell is not to be had there.
	Hang(ctx context.Context, d Door) (Ringer, error)
}

// Door is where a Doorbell is to hang.
type Door struct {
	// Schema holds the outbox.
	Schema string
	// Cluster is the system identifier of the server that is fetched from, as Postgres writes it.
	Cluster string
	// Config is the way to connect as the pool would; it is the caller's to change.
	Config func(ctx context.Context) (*pgx.ConnConfig, error)
	// Logger hears what ends the bell.
	Logger *slog.Logger
}

// Ringer is a bell that hangs.
type Ringer interface {
	// Rings tells that there may be something to fetch; what nobody has taken
	// yet is one ring. It is never closed.
	Rings() <-chan struct{}
	// Lost is closed when the bell's connection has ended.
	Lost() <-chan struct{}
	// Close ends the connection, and waits until whatever runs has stopped.
	Close()
}

// belfry is where a session's bell hangs. The WAL bell may come later than the session, and rest meanwhile.
type belfry struct {
	stop    context.CancelFunc // ends who climbs to hang the bell, or takes it down; nil where nobody has
	climbed chan struct{}      // closed when they have ended

	mu      sync.Mutex
	bell    Ringer // nil: poll
	name    Bell
	why     string // there is no better one
	rests   bool   // the WAL bell was taken down
	returns bool   // it is to hang again after its rest
}

// hang hangs a bell, unless it is to rest, or who brings it was told to stop: another one may be on the way.
func (b *belfry) hang(ctx context.Context, name Bell, r Ringer) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rests || ctx.Err() != nil {
		return false
	}
	b.bell, b.name, b.why, b.returns = r, name, "", false
	return true
}

// lacks notes why there is no better bell. It reports whether that is news.
func (b *belfry) lacks(why string) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.name == BellWAL || b.why == why {
		return false
	}
	b.why = why
	return true
}

// takeDown has the WAL bell rest, and takes it if it hangs. It reports whether it does, and whether that is news.
func (b *belfry) takeDown() (bell Ringer, rests, news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rests || !b.returns && b.name != BellWAL {
		return nil, b.rests, false
	}
	if b.name == BellWAL {
		bell = b.bell
		b.bell, b.name = nil, BellPoll
	}
	b.rests, b.returns = true, false
	return bell, true, true
}

// bringBack ends the rest, and reports whether there was one.
func (b *belfry) bringBack() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	rested := b.rests
	b.rests, b.returns = false, b.returns || rested
	return rested
}

// send has fn done by a goroutine, once the one before it has ended.
func (b *belfry) send(fn func(ctx context.Context)) {
	before := b.climbed
	if b.stop != nil {
		b.stop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	b.stop, b.climbed = cancel, ended
	go func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		fn(ctx)
	}()
}

func (b *belfry) get() (Ringer, Bell, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bell, b.name, b.why
}

func (b *belfry) close() {
	if b.stop != nil {
		b.stop()
		<-b.climbed
	}
	if bell, _, _ := b.get(); bell != nil {
		bell.Close()
	}
}

// Hang puts up the bell of a session that was opened without (OpenSilent). Which one rings was decided at install: the WAL bell's
// publication and the trigger that notifies are never there together. So the
// ladder has one step: from the bell that the database has down to polling.
func (s *Session) Hang(ctx context.Context) error {
	cfg := s.src.cfg
	notifies, logged := s.installed.bell == string(BellNotify), s.installed.bell == string(BellWAL)
	switch {
	case cfg.Bell == BellPoll:
		return nil
	case cfg.Bell == BellWAL && !logged:
		return fmt.Errorf("outbox: %w: the database was installed with bell %s: run lockstep install --bell wal", ErrBellRefused, s.installed.bell)
	case logged && cfg.Bell != BellNotify && cfg.WAL != nil:
		return s.climb(ctx)
	case notifies:
		if err := s.listen(ctx); err != nil {
			return err
		}
		if cfg.WAL != nil && cfg.Bell == BellAuto && s.Bell() == string(BellNotify) {
			s.belfry.lacks("the database was installed with bell notify (lockstep install --bell wal)")
		}
		return nil
	case logged && cfg.Bell == BellNotify:
		s.polls(slog.LevelWarn, "the database was installed with bell wal: nothing notifies")
	case logged:
		s.polls(slog.LevelWarn, "the database was installed with bell wal, and this program has none (Config.WAL)")
	default:
		s.polls(slog.LevelInfo, "the bell is off in this database (lockstep install --bell notify, or wal)")
	}
	return nil
}

// polls notes, and says where it is news, why the session polls.
func (s *Session) polls(level slog.Level, why string) {
	why = strings.TrimPrefix(why, "outbox: ")
	if s.belfry.lacks(why) {
		s.src.cfg.Logger.Log(context.Background(), level, "polling: "+why)
	}
}

// climb hangs the WAL bell. Its slot waits for every transaction in flight, which
// must not hold up the node: after ProveWithin the session polls until the bell
// hangs. So it does where the bell is refused, unless it was asked for by name.
func (s *Session) climb(ctx context.Context) error {
	first, told := make(chan error), make(chan struct{})
	s.belfry.send(func(ctx context.Context) { s.climber(ctx, first, told) })
	err := s.firstTry(ctx, first)
	close(told)
	if err != nil {
		s.belfry.close()
	}
	return err
}

// firstTry waits for what becomes of the first attempt.
func (s *Session) firstTry(ctx context.Context, first <-chan error) error {
	cfg := s.src.cfg
	timer := time.NewTimer(cfg.ProveWithin)
	defer timer.Stop()
	select {
	case err := <-first:
		if err == nil || cfg.Bell == BellWAL {
			return err
		}
		// Refused, or lost on the way: a proxy may drop such connections and say nothing.
		// Where the server is away the fetches find that out.
		s.polls(slog.LevelWarn, err.Error())
	case <-timer.C:
		s.polls(slog.LevelInfo, fmt.Sprintf("the WAL bell is not ready after %s: its slot waits for the transactions that were in flight when it began", cfg.ProveWithin))
	case <-ctx.Done():
		return fmt.Errorf("outbox: hang the WAL bell: %w", context.Cause(ctx))
	}
	return nil
}

// climber tries until the bell hangs. It gives the outcome to the first try for
// as long as that waits.
func (s *Session) climber(ctx context.Context, first chan<- error, told <-chan struct{}) {
	cfg := s.src.cfg
	door := Door{Schema: cfg.Schema, Cluster: strconv.FormatInt(s.at.cluster, 10), Logger: cfg.Logger, Config: func(ctx context.Context) (*pgx.ConnConfig, error) {
		return s.src.connConfig(ctx, "bell")
	}}
	for {
		bell, err := cfg.WAL.Hang(ctx, door)
		switch {
		case err != nil:
			err = fmt.Errorf("outbox: %w", err)
		case !s.belfry.hang(ctx, BellWAL, bell):
			bell.Close()
			return
		}
		select {
		case first <- err:
		case <-told:
			switch {
			case err == nil:
				cfg.Logger.Info("the WAL bell rings now")
			case ctx.Err() == nil:
				s.polls(slog.LevelWarn, err.Error())
			}
		}
		if err == nil || !pause.For(ctx, cfg.RetryBell) {
			return
		}
	}
}

// Rest takes the WAL bell down, or hangs it again. Whoever fetches all the time hears nothing new by a bell, and this one
// has the server decode every transaction, and tell of it, meanwhile. It reports whether a bell rests now: any other rings on.
// It waits for nobody: the slot is dropped, and made again, beside the session, which polls until the bell hangs. That may be
// refused then, and is tried again, whatever Config.Bell says.
func (s *Session) Rest(rest bool) bool {
	b := &s.belfry
	if rest {
		bell, rests, news := b.takeDown()
		if news {
			s.polls(slog.LevelInfo, "the WAL bell rests while transactions come in crowds")
			b.send(func(context.Context) { // whoever is on the way to hang it ends
				if bell != nil {
					bell.Close()
				}
			})
		}
		return rests
	}
	if b.bringBack() {
		b.lacks("the WAL bell is hung again: its slot waits for the transactions that are in flight")
		told := make(chan struct{})
		close(told)
		b.send(func(ctx context.Context) { s.climber(ctx, nil, told) })
	}
	return false
}

// Rings tells that there may be something to fetch: a hint. It is never closed.
func (s *Session) Rings() <-chan struct{} {
	if bell, _, _ := s.belfry.get(); bell != nil {
		return bell.Rings()
	}
	return nil
}

// Lost is closed when the bell's connection has ended; with the poll bell it never is.
func (s *Session) Lost() <-chan struct{} {
	if bell, _, _ := s.belfry.get(); bell != nil {
		return bell.Lost()
	}
	return nil
}

// Bell names the doorbell in use. From "poll" it may become "wal" while the
// session lives, and back (Rest).
func (s *Session) Bell() string {
	if bell, name, _ := s.belfry.get(); bell != nil {
		return string(name)
	}
	return string(BellPoll)
}

// WhyBell says why it is not a better one, "" where there is nothing to say.
func (s *Session) WhyBell() string {
	_, _, why := s.belfry.get()
	return why
}
