package pgtest

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep/internal/pgserver"
)

// DB is a database of a test's own.
type DB struct {
	// Name is the database's name; it needs no quotes in SQL.
	Name string

	server *pgserver.Server

	mu    sync.Mutex
	roles []string
}

// Role is a role made by DB.Role.
type Role struct {
	// Name is unique in the cluster and needs no quotes in SQL.
	Name string

	password string
}

// Server is the cluster that holds the database.
func (db *DB) Server() *pgserver.Server { return db.server }

// DSN is the database's address for the superuser. It holds the password.
func (db *DB) DSN() string { return db.server.DSN(db.Name) }

// DSNAs is the database's address for a role. It holds the role's password.
func (db *DB) DSNAs(r Role) string { return db.server.DSNAs(db.Name, r.Name, r.password) }

// Pool opens a pool as the superuser and closes it at the test's end. Each function may
// change the pool's config first.
func (db *DB) Pool(tb testing.TB, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	return pool(tb, db.DSN(), change)
}

// PoolAs opens a pool as a role and closes it at the test's end.
func (db *DB) PoolAs(tb testing.TB, r Role, change ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	return pool(tb, db.DSNAs(r), change)
}

func pool(tb testing.TB, dsn string, change []func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	for _, f := range change {
		f(config)
	}
	p, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		tb.Fatalf("pgtest: pool: %v", err)
	}
	tb.Cleanup(p.Close)
	return p
}

// Conn opens a connection as the superuser and closes it at the test's end.
func (db *DB) Conn(tb testing.TB) *pgx.Conn {
	tb.Helper()
	return connect(tb, db.DSN())
}

// ConnAs opens a connection as a role and closes it at the test's end.
func (db *DB) ConnAs(tb testing.TB, r Role) *pgx.Conn {
	tb.Helper()
	return connect(tb, db.DSNAs(r))
}

func connect(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), adminLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatalf("pgtest: connect: %v", err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs SQL as the superuser on a connection of its own; without arguments it may be
// several statements. The test fails if it does.
func (db *DB) Exec(tb testing.TB, sql string, args ...any) pgconn.CommandTag {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), adminLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.DSN())
	if err != nil {
		tb.Fatalf("pgtest: connect: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	tag, err := conn.Exec(ctx, sql, args...)
	if err != nil {
		tb.Fatalf("pgtest: %v\n%s", err, sql)
	}
	return tag
}

// Role creates a role with a name of its own and a password, and drops it with the
// database, together with all it owns there. It may log in, unless the attributes, which
// are those of CREATE ROLE, say NOLOGIN.
func (db *DB) Role(tb testing.TB, attrs ...string) Role {
	tb.Helper()
	r := Role{Name: unique("role"), password: rand.Text()}
	if !slices.ContainsFunc(attrs, func(a string) bool { return strings.Contains(strings.ToUpper(a), "LOGIN") }) {
		attrs = append([]string{"LOGIN"}, attrs...)
	}
	sql := "CREATE ROLE " + r.Name + " PASSWORD '" + r.password + "' " + strings.Join(attrs, " ")
	if err := admin(db.server, sql); err != nil {
		tb.Fatalf("pgtest: role: %v", err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.roles = append(db.roles, r.Name)
	return r
}

// drop removes the database first: what the roles own in it goes with it, and nobody's
// open transaction can hold that up.
func (db *DB) drop() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	statements := []string{"DROP DATABASE " + db.Name + " WITH (FORCE)"}
	for _, name := range slices.Backward(db.roles) {
		statements = append(statements, "DROP OWNED BY "+name, "DROP ROLE "+name)
	}
	return admin(db.server, statements...)
}
