package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pglockstep/lockstep"
)

// writeFailed answers a write that has not gone as it should. What a status
// promises first is the outcome: only 202 is committed, and only 504 is not known.
func (h *Handler) writeFailed(w http.ResponseWriter, err error) {
	var we *lockstep.WriteError
	if errors.As(err, &we) && we.Token != (lockstep.Token{}) {
		w.Header().Set(tokenHeader, we.Token.String())
	}
	why := reason(err)
	switch {
	case errors.Is(err, lockstep.ErrNotVisible):
		h.accepted(w, why)
	case errors.Is(err, lockstep.ErrOutcomeUnknown):
		h.fail(w, outcomeUnknown, "the connection to Postgres broke while the commit was under way, look before you write again: %s", why)
	case errors.Is(err, lockstep.ErrNoRow):
		h.fail(w, notFound, "there is no row of that key, or a trigger keeps it")
	case errors.Is(err, lockstep.ErrRefused):
		_, why, _ = strings.Cut(why, lockstep.ErrRefused.Error()+": ")
		h.fail(w, refused, "%s", why)
	case errors.Is(err, lockstep.ErrSuppressed):
		h.fail(w, refused, "a trigger kept the row from being written")
	default:
		h.fail(w, kindOf(err), "%s", why)
	}
}

// accepted answers a write that is committed and not to be seen here yet.
func (h *Handler) accepted(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	// The client has gone, if it fails.
	_ = json.NewEncoder(w).Encode(struct {
		Committed bool   `json:"committed"`
		Visible   bool   `json:"visible"`
		Detail    string `json:"detail"`
	}{true, false, h.Scrub(why)})
}

// kindOf sorts the errors of writes that were not committed.
func kindOf(err error) kind {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return unavailable // the pool, the network, or the time was over
	}
	switch pgErr.Code {
	case "23505", "23503", "23P01", "23001": // unique, foreign key, exclusion, restrict
		return conflict
	case "40001", "40P01", "40002", "55P03": // serialization, deadlock, deferred constraint, lock not available
		return conflict
	case "42501":
		return forbidden
	case "25006", "57014": // read-only: a server that was demoted; canceled: a timeout of the server's
		return unavailable
	}
	switch pgErr.Code[:min(2, len(pgErr.Code))] {
	// Data, constraints, check options, raised by a function, limits, and names and types that a migration has changed.
	case "22", "23", "44", "P0", "54", "42", "0A", "2F", "38", "39", "55":
		return refused
	case "53", "57", "08": // resources, the operator, connections
		return unavailable
	}
	return failed
}

// reason is an error's cause in one line, as a client may know it: Postgres'
// message and what it is about, and not the rows that its details show.
func reason(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err.Error()
	}
	about := ""
	for _, part := range []struct{ what, name string }{{"constraint", pgErr.ConstraintName}, {"column", pgErr.ColumnName}} {
		if part.name != "" && !strings.Contains(pgErr.Message, `"`+part.name+`"`) {
			about += fmt.Sprintf(", %s %q", part.what, part.name)
		}
	}
	return fmt.Sprintf("%s (SQLSTATE %s%s)", pgErr.Message, pgErr.Code, about)
}
