package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// settings are in force on our connections: text forms must be those that
// capture writes; a fetch is one transaction with one snapshot, and must go
// through the outbox's key whatever the planner's statistics say, without
// planning it again or starting workers for it; and no timeout of the server's
// defaults may cut a long load short, or a connection that only listens.
//
// They are asked for when the connection is made and not with SET: behind a
// pooler SET would change the connections of others, for good.
//
// Not default_transaction_read_only: a connection string with
// target_session_attrs=read-write asks for just that, to tell a primary from a
// standby, and would find no primary anywhere.
var settings = map[string]string{
	"timezone": "UTC", "datestyle": "ISO, YMD", "intervalstyle": "postgres", "bytea_output": "hex", "extra_float_digits": "1", "lc_monetary": "C",
	"search_path": "pg_catalog", "row_security": "off",
	"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0",
	"jit": "off", "enable_seqscan": "off", "max_parallel_workers_per_gather": "0", "plan_cache_mode": "force_generic_plan",
	"default_transaction_isolation": "repeatable read", "default_transaction_deferrable": "off",
}

// localSettings sets them for one transaction, and askSettings reads them.
var localSettings, askSettings = func() (local, ask string) {
	var sets, asks []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !strings.HasPrefix(name, "default_transaction_") { // BEGIN says these
			sets = append(sets, fmt.Sprintf("set local %s = '%s'", name, settings[name]))
		}
		asks = append(asks, fmt.Sprintf("current_setting('%s') = '%s'", name, settings[name]))
	}
	return strings.Join(sets, "; "), "select " + strings.Join(asks, " and ")
}()

// newTimeout is one more timeout, which PostgreSQL has since 17. Before, it is
// no setting, and a connection that asks for it is refused.
const newTimeout = "transaction_timeout"

// hasNewTimeout goes by what the server says of itself when it is connected to:
// 18.4, 19beta1, 17.2 (Debian 17.2-1).
func hasNewTimeout(conn *pgx.Conn) bool {
	var major int
	_, err := fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d", &major)
	return err == nil && major >= 17
}

// connect opens a connection as the pool would. pooled reports that the
// settings do not hold for the connection and must be made in each
// transaction: a pooler refuses or drops them and may hand each transaction to
// another server process, or the pool's AfterConnect has made others.
func (s *Source) connect(ctx context.Context, role string) (conn *pgx.Conn, pooled bool, err error) {
	cc, err := s.connConfig(ctx, role)
	if err != nil {
		return nil, false, err
	}
	conn, pooled, err = s.dial(ctx, cc)
	if err == nil && !pooled && !s.untimed && timed(ctx, conn) {
		closeConn(conn)
		s.untimed = true
		conn, pooled, err = s.dial(ctx, cc)
	}
	if err != nil {
		return nil, false, fmt.Errorf("outbox: %w", err)
	}
	if after := s.cfg.Pool.Config().AfterConnect; after != nil {
		if err := after(ctx, conn); err != nil {
			closeConn(conn)
			return nil, false, fmt.Errorf("outbox: AfterConnect: %w", err)
		}
	}
	if pooled {
		return conn, true, nil
	}
	var held bool
	ask := askSettings
	if hasNewTimeout(conn) {
		ask += " and current_setting('" + newTimeout + "') = '0'"
	}
	if err := conn.QueryRow(ctx, ask, pgx.QueryExecModeSimpleProtocol).Scan(&held); err != nil {
		closeConn(conn)
		return nil, false, fmt.Errorf("outbox: set up the connection: %w", err)
	}
	return conn, !held, nil
}

// dial connects with our settings, or without them where a pooler refuses them.
func (s *Source) dial(ctx context.Context, cc *pgx.ConnConfig) (conn *pgx.Conn, pooled bool, err error) {
	with := asked(cc)
	if s.untimed {
		with.RuntimeParams[newTimeout] = "0"
	}
	conn, err = pgx.ConnectConfig(ctx, with)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "42704" && s.untimed { // an older server is in its place
		s.untimed = false
		return s.dial(ctx, cc)
	}
	if errors.As(err, &pgErr) && pgErr.Code == "08P01" { // PgBouncer: unsupported startup parameter
		conn, err = pgx.ConnectConfig(ctx, describing(cc))
		return conn, true, err
	}
	return conn, false, err
}

// timed reports whether a role or a database has given the connection the new timeout.
func timed(ctx context.Context, conn *pgx.Conn) bool {
	if !hasNewTimeout(conn) {
		return false
	}
	var timeout string
	err := conn.QueryRow(ctx, "select current_setting('"+newTimeout+"')", pgx.QueryExecModeSimpleProtocol).Scan(&timeout)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code == "25P04" // it has cut even this short
	}
	return err == nil && timeout != "0" // what else is wrong is found out by the next statement
}

// connConfig is the way in which the pool would connect now.
func (s *Source) connConfig(ctx context.Context, role string) (*pgx.ConnConfig, error) {
	pc := s.cfg.Pool.Config()
	cc := pc.ConnConfig.Copy()
	if pc.BeforeConnect != nil {
		if err := pc.BeforeConnect(ctx, cc); err != nil {
			return nil, fmt.Errorf("outbox: BeforeConnect: %w", err)
		}
	}
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = "lockstep " + role
	}
	return cc, nil
}

// asked is the configuration with our settings in place of the pool's.
func asked(cc *pgx.ConnConfig) *pgx.ConnConfig {
	cc = cc.Copy()
	maps.DeleteFunc(cc.RuntimeParams, func(name, _ string) bool {
		_, ours := settings[strings.ToLower(name)]
		return ours
	})
	maps.Copy(cc.RuntimeParams, settings)
	return cc
}

// describing is the configuration without named statements, which belong to one server process.
func describing(cc *pgx.ConnConfig) *pgx.ConnConfig {
	cc = cc.Copy()
	cc.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	cc.StatementCacheCapacity, cc.DescriptionCacheCapacity = 0, 0
	return cc
}

// begin is the SQL that begins a transaction with one snapshot and our settings.
func (s *Session) begin() string {
	if !s.pooled {
		return beginSQL
	}
	sql := beginSQL + "; " + localSettings
	if hasNewTimeout(s.conn) {
		sql += "; set local " + newTimeout + " = '0'"
	}
	return sql
}

// within runs statements outside of fetches: in a transaction of their own
// where the settings have to be made in it.
func (s *Session) within(ctx context.Context, fn func() error) error {
	if !s.pooled {
		return fn()
	}
	if _, err := s.conn.Exec(ctx, s.begin()); err != nil {
		return err
	}
	if err := fn(); err != nil {
		_, endErr := s.conn.Exec(context.WithoutCancel(ctx), "rollback")
		return errors.Join(err, endErr)
	}
	_, err := s.conn.Exec(ctx, "commit")
	return err
}
