package pgserver

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// ErrStopped is returned by the methods of a Server after Stop.
var ErrStopped = errors.New("the server was stopped and its files are gone")

// Stop ends the server for good and removes its files (not those in a given Dir). It
// blocks until the last process has ended. Stopping twice is no error.
func (s *Server) Stop(mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	err := s.halt(mode)
	if err != nil {
		return err // the guard keeps watch
	}
	s.stopped = true
	if s.keep {
		err = errors.Join(os.Remove(filepath.Join(s.paths.dir, lockName)),
			os.RemoveAll(filepath.Join(s.paths.dir, guardName)))
	} else {
		err = os.RemoveAll(s.paths.dir)
	}
	if s.guard != nil {
		s.guard.release()
	}
	return errors.Join(err, s.lock.Close())
}

// Halt ends the server and keeps its files for Restart. It blocks until the last process
// has ended. It is no error if the server does not run.
func (s *Server) Halt(mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	return s.halt(mode)
}

// Kill ends every process of the server with SIGKILL, keeps its files for Restart, and
// blocks until the last one has ended. It is no error if the server does not run.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	if s.pm == nil {
		return nil
	}
	return s.ended(s.pm.kill())
}

// Restart runs the server again, at the same port, after stopping it fast if it runs. It
// returns once the server takes connections; the context bounds that.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	if err := s.halt(Fast); err != nil {
		return err
	}
	return s.run(ctx)
}

func (s *Server) halt(mode Mode) error {
	if s.pm == nil {
		return nil
	}
	return s.ended(s.pm.stop(mode))
}

func (s *Server) ended(err error) error {
	if err != nil {
		return err
	}
	s.pm = nil
	s.guard.tell(0)
	return nil
}

// Logs returns the whole server log, which Stop removes.
func (s *Server) Logs() string { return s.logFrom(0) }

// LogTail returns the last n lines of the server log as one line, for messages.
func (s *Server) LogTail(n int) string { return tail(s.Logs(), n) }

func (s *Server) logSize() int64 {
	info, err := os.Stat(s.paths.log)
	if err != nil {
		return 0 // not started yet
	}
	return info.Size()
}

func (s *Server) logFrom(offset int64) string {
	f, err := os.Open(s.paths.log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(f, offset, 1<<40))
	if err != nil {
		return ""
	}
	return string(text)
}
