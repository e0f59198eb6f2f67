package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
)

// remote are the peers over TCP on loopback. Redis is left out where there is none.
func (b *bench) remote(ctx context.Context) (list []peer, stop func() error, err error) {
	list = []peer{{"SELECT", "SELECT by primary key through pgx, prepared", true, b.openSelect}}
	address, stop, err := startRedis(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		fmt.Fprintln(b.print, "  left out, since there is no redis-server (Debian: apt-get install redis-server): Redis, and Redis with client-side caching")
		return list, func() error { return nil }, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return append(list,
		peer{"Redis", "GET by rueidis over loopback, without client-side caching", true, func(ctx context.Context, rows []account) (held, error) { return openRedis(ctx, address, rows, false) }},
		peer{"Redis, client-side caching", "the same by rueidis' DoCache", true, func(ctx context.Context, rows []account) (held, error) { return openRedis(ctx, address, rows, true) }},
	), stop, nil
}

// startRedis runs a redis-server that keeps nothing, until stop.
func startRedis(ctx context.Context) (address string, stop func() error, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = l.Addr().String()
	_, port, _ := strings.Cut(address, ":")
	dir, err := os.MkdirTemp("", "lockstep-bench-redis-")
	if err := errors.Join(err, l.Close()); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		_ = cmd.Process.Kill() // it keeps nothing
		_ = cmd.Wait()         // it was killed
		return os.RemoveAll(dir)
	}
	said := bufio.NewScanner(out)
	for said.Scan() {
		if strings.Contains(said.Text(), "Ready to accept connections") {
			go func() { _, _ = io.Copy(io.Discard, out) }() // until it ends
			return address, stop, nil
		}
	}
	return "", nil, errors.Join(fmt.Errorf("redis-server does not start: %s", said.Text()), stop())
}

type redis struct {
	client rueidis.Client
	cached bool
}

func openRedis(ctx context.Context, address string, rows []account, cached bool) (held, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, CacheSizeEachConn: 1 << 30, DisableCache: !cached})
	if err != nil {
		return nil, err
	}
	r := &redis{client, cached}
	if err := client.Do(ctx, client.B().Flushall().Build()).Error(); err != nil {
		return nil, err
	}
	for len(rows) > 0 {
		n := min(len(rows), 10_000)
		if err := r.put(rows[:n]); err != nil {
			return nil, err
		}
		rows = rows[n:]
	}
	return r, nil
}

func (r *redis) read(ctx context.Context, ids []int) (sum int64, missing int, err error) {
	for _, id := range ids {
		key := strconv.Itoa(id)
		var got rueidis.RedisResult
		if r.cached {
			got = r.client.DoCache(ctx, r.client.B().Get().Key(key).Cache(), time.Hour)
		} else {
			got = r.client.Do(ctx, r.client.B().Get().Key(key).Build())
		}
		data, err := got.AsBytes()
		if rueidis.IsRedisNil(err) {
			missing++
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		sum += int64(binary.BigEndian.Uint64(data))
	}
	return sum, missing, nil
}

// put sends rows as an application would that packs them: balance, manager, note.
func (r *redis) put(rows []account) error {
	list := make(rueidis.Commands, 0, len(rows))
	for _, a := range rows {
		v := binary.BigEndian.AppendUint64(nil, uint64(a.Balance))
		v = append(binary.BigEndian.AppendUint64(v, uint64(a.Manager)), a.Note...)
		list = append(list, r.client.B().Set().Key(strconv.Itoa(a.ID)).Value(rueidis.BinaryString(v)).Build())
	}
	for _, got := range r.client.DoMulti(context.Background(), list...) {
		if err := got.Error(); err != nil {
			return err
		}
	}
	return nil
}

func (r *redis) close() { r.client.Close() }

type selected struct{ pool *pgxpool.Pool }

func (b *bench) openSelect(ctx context.Context, rows []account) (held, error) {
	if err := b.exec(ctx, "drop table if exists selected; create table selected (id int primary key, manager int not null, balance bigint not null, note text not null)"); err != nil {
		return nil, err
	}
	_, err := b.pool.CopyFrom(ctx, pgx.Identifier{"selected"}, []string{"id", "manager", "balance", "note"}, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		a := rows[i]
		return []any{a.ID, a.Manager, a.Balance, a.Note}, nil
	}))
	if err != nil {
		return nil, err
	}
	return &selected{b.pool}, b.exec(ctx, "vacuum analyze selected")
}

func (s *selected) read(ctx context.Context, ids []int) (sum int64, missing int, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Release()
	for _, id := range ids {
		var a account
		err := conn.QueryRow(ctx, "select id, manager, balance, note from selected where id = $1", id).Scan(&a.ID, &a.Manager, &a.Balance, &a.Note)
		if errors.Is(err, pgx.ErrNoRows) {
			missing++
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		sum += a.Balance
	}
	return sum, missing, nil
}

func (s *selected) put(rows []account) error {
	ids, balances := make([]int, len(rows)), make([]int64, len(rows))
	for i, a := range rows {
		ids[i], balances[i] = a.ID, a.Balance
	}
	_, err := s.pool.Exec(context.Background(), "update selected set balance = new.balance from unnest($1::int[], $2::bigint[]) new (id, balance) where selected.id = new.id", ids, balances)
	return err
}

func (s *selected) close() {}
