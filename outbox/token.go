package outbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ReadToken returns the token of the transaction in which q runs. It draws a
// transaction id, if the transaction has none yet.
func ReadToken(ctx context.Context, q Querier, schema string) (Token, error) {
	var history string
	var xid int64
	err := q.QueryRow(ctx, "select pg_current_xact_id()::text::bigint, history::text from "+pgx.Identifier{schema, "meta"}.Sanitize()).Scan(&xid, &history)
	if err != nil {
		return Token{}, fmt.Errorf("outbox: read the token: %w", err)
	}
	id, err := uuid.Parse(history)
	if err != nil {
		return Token{}, fmt.Errorf("outbox: read the token: %w", err)
	}
	return Token{History: id, Xid: uint64(xid)}, nil
}

// String prints the token as history:xid; the zero Token as "".
func (t Token) String() string {
	if t == (Token{}) {
		return ""
	}
	return t.History.String() + ":" + strconv.FormatUint(t.Xid, 10)
}

// ParseToken reads what Token.String prints.
func ParseToken(s string) (Token, error) {
	if s == "" {
		return Token{}, nil
	}
	history, xid, ok := strings.Cut(s, ":")
	id, err := uuid.Parse(history)
	if !ok || err != nil {
		return Token{}, fmt.Errorf("outbox: token %q: want history:xid, such as 0190b3c2-…:4711", s)
	}
	x, err := parseXid(xid)
	if err != nil {
		return Token{}, fmt.Errorf("outbox: token %q: xid %w", s, err)
	}
	return Token{History: id, Xid: x}, nil
}

// MarshalText writes the token as String does.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what ParseToken reads.
func (t *Token) UnmarshalText(b []byte) error {
	p, err := ParseToken(string(b))
	if err != nil {
		return err
	}
	*t = p
	return nil
}
