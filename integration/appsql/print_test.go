package appsql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// client is one connection, and prints all that comes back over it.
type client struct {
	conn     *pgconn.PgConn
	extended bool // statements that are alone in their message go by the extended protocol
	out      bytes.Buffer
	heard    []*pgconn.Notification
}

func (c *client) printf(format string, args ...any) { fmt.Fprintf(&c.out, "   "+format+"\n", args...) }

// dial connects; what the server says between the lines is printed where it comes.
func dial(ctx context.Context, dsn string, extended bool) (*client, error) {
	c := &client{extended: extended}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.printf("%s", describe((*pgconn.PgError)(n))) }
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { c.heard = append(c.heard, n) }
	c.conn, err = pgconn.ConnectConfig(ctx, config)
	return c, err
}

// run does one step and prints its results.
func (c *client) run(ctx context.Context, s step) {
	switch {
	case s.data != "" || copyIn.MatchString(s.sql):
		tag, err := c.conn.CopyFrom(ctx, strings.NewReader(s.data), s.sql)
		c.end(tag, err)
	case copyOut.MatchString(s.sql):
		var data bytes.Buffer
		tag, err := c.conn.CopyTo(ctx, &data, s.sql)
		for line := range strings.Lines(data.String()) {
			c.printf("%s", strings.TrimSuffix(line, "\n"))
		}
		c.end(tag, err)
	case s.binds != nil || c.extended && !s.joined:
		values := make([][]byte, len(s.binds))
		for i, b := range s.binds {
			if b != `\N` {
				values[i] = []byte(b)
			}
		}
		tag, err := c.result(c.conn.ExecParams(ctx, s.sql, values, nil, nil, nil))
		c.end(tag, err)
	default:
		several := c.conn.Exec(ctx, s.sql)
		for several.NextResult() {
			if tag, err := c.result(several.ResultReader()); err == nil {
				c.printf("%s", tag)
			}
		}
		if err := several.Close(); err != nil {
			c.end(pgconn.CommandTag{}, err)
		} else {
			c.printf("[%c]", c.conn.TxStatus())
		}
	}
}

func (c *client) end(tag pgconn.CommandTag, err error) {
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr):
		c.printf("%s", describe(pgErr))
	case err != nil:
		c.printf("error: %v", err)
	default:
		c.printf("%s", tag)
	}
	c.printf("[%c]", c.conn.TxStatus())
}

func (c *client) result(r *pgconn.ResultReader) (pgconn.CommandTag, error) {
	if fields := r.FieldDescriptions(); len(fields) > 0 {
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = fmt.Sprintf("%s:%s", f.Name, typeName(f.DataTypeOID))
		}
		c.printf("%s", strings.Join(names, "\t"))
	}
	for r.NextRow() {
		values := make([]string, len(r.Values()))
		for i, v := range r.Values() {
			values[i] = string(v)
			if v == nil {
				values[i] = "∅"
			}
		}
		c.printf("%s", strings.Join(values, "\t"))
	}
	return r.Close()
}

// typeName is a built-in type's oid; those of the application's own differ between databases.
func typeName(oid uint32) string {
	if oid >= 16384 {
		return "own"
	}
	return fmt.Sprint(oid)
}

// describe is everything that an error or a notice says, but the line of the server's source.
func describe(e *pgconn.PgError) string {
	s := e.Severity + " " + e.Code + ": " + e.Message
	for _, f := range []struct{ name, value string }{
		{"detail", e.Detail}, {"hint", e.Hint}, {"internal query", e.InternalQuery}, {"where", e.Where}, {"schema", e.SchemaName},
		{"table", e.TableName}, {"column", e.ColumnName}, {"type", e.DataTypeName}, {"constraint", e.ConstraintName}, {"routine", e.Routine},
	} {
		if f.value != "" {
			s += "\n     " + f.name + ": " + strings.ReplaceAll(f.value, "\n", "\n       ")
		}
	}
	if e.Position != 0 || e.InternalPosition != 0 {
		s += fmt.Sprintf("\n     at %d, %d", e.Position, e.InternalPosition)
	}
	return s
}
