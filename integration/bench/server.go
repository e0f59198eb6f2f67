package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
	"github.com/pglockstep/lockstep/triggers"
)

// serve starts the server that is measured, and says under which settings.
func (b *bench) serve(ctx context.Context, walLevel string) (stop func() error, err error) {
	b.server, err = pgserver.Start(ctx, pgserver.Config{Settings: map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "1GB", "max_connections": "600",
		"max_wal_size": "8GB", "checkpoint_timeout": "30min", "autovacuum_naptime": "10s", "wal_level": walLevel,
	}})
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(b.server.DSN("postgres"))
	if err == nil {
		cfg.MaxConns = 100
		b.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	}
	if err == nil {
		err = triggers.Install(ctx, b.pool, triggers.Options{})
	}
	if err != nil {
		return nil, errors.Join(err, b.server.Stop(pgserver.Fast))
	}
	v := b.server.Version()
	b.settings = map[string]string{
		"cores": fmt.Sprint(runtime.GOMAXPROCS(0)), "CPU": cpuModel(), "go": runtime.Version(), "PostgreSQL": fmt.Sprintf("%d.%d", v/10000, v%10000),
		"rounds": fmt.Sprint(b.rounds),
	}
	for _, name := range []string{"fsync", "synchronous_commit", "shared_buffers", "wal_level"} {
		var value string
		if err := b.pool.QueryRow(ctx, "select current_setting($1)", name).Scan(&value); err != nil {
			return nil, errors.Join(err, b.server.Stop(pgserver.Fast))
		}
		b.settings[name] = value
	}
	pool, server := b.pool, b.server
	return func() error {
		pool.Close()
		return server.Stop(pgserver.Fast)
	}, nil
}

// logical runs fn on a server of its own, whose log can be decoded.
func (b *bench) logical(ctx context.Context, fn func(*bench) error) (err error) {
	on := *b
	stop, err := on.serve(ctx, "logical")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	err = fn(&on)
	b.figures = on.figures
	return err
}

// exec runs each piece of SQL on its own: VACUUM must not be in a transaction.
func (b *bench) exec(ctx context.Context, sql ...string) error {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for _, s := range sql {
		if _, err := conn.Conn().PgConn().Exec(ctx, s).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// cpuModel is what Linux calls the processor; elsewhere its architecture.
func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// serverCPU is the processor time that the server and all its processes have
// used, those that have ended too. 0 where the system is not Linux.
func (b *bench) serverCPU() time.Duration {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	parent, sum := b.server.PID(), time.Duration(0)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		ppid, own, ended := processCPU(pid)
		switch {
		case pid == parent:
			sum += own + ended
		case ppid == parent:
			sum += own
		}
	}
	return sum
}

// processCPU is a process' parent, its processor time, and that of its children that have ended. Linux tells it
// in hundredths of a second, which is more than an idle process takes between two readings; that of a single thread also in nanoseconds.
func processCPU(pid int) (parent int, own, ended time.Duration) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0 // it has ended
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 18 {
		return 0, 0, 0
	}
	at := func(i int) int {
		n, _ := strconv.Atoi(fields[i]) // it is a number
		return n
	}
	const tick = 10 * time.Millisecond
	own = time.Duration(at(11)+at(12)) * tick
	if exact := firstThreadCPU(pid); exact > 0 && at(17) == 1 { // threads
		own = exact
	}
	return at(1), own, time.Duration(at(13)+at(14)) * tick
}

// firstThreadCPU is the processor time of a process' first thread, 0 where the kernel does not count it.
func firstThreadCPU(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0
	}
	ns, _, _ := strings.Cut(string(stat), " ")
	n, _ := strconv.ParseInt(ns, 10, 64) // it is a number
	return time.Duration(n)
}
