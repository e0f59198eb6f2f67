package serve

import (
	"context"
	"errors"
	"net/http"

	"github.com/pglockstep/lockstep"
)

// tokenHeader carries a write's token back, and with a read the token to wait for.
const tokenHeader = "Lockstep-Token"

// awaited answers once the transaction of the request's token is visible here.
// The problems of other tables than the one that is read do not count.
func (h *Handler) awaited(table string, p page) page {
	return func(w http.ResponseWriter, r *http.Request, node *lockstep.Node) {
		text := r.Header.Get(tokenHeader)
		token, err := lockstep.ParseToken(text)
		if err != nil {
			h.fail(w, badRequest, "%s: %v", tokenHeader, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), h.ReadWait)
		defer cancel()
		err = node.WaitFor(ctx, token)
		if ctx.Err() == nil && errors.Is(err, lockstep.ErrTable) {
			err = problemOf(node, table)
		}
		switch {
		case err == nil:
			p(w, r, node)
		case errors.Is(err, lockstep.ErrHistory):
			h.fail(w, otherHistory, "%v", err)
		case ctx.Err() != nil:
			h.fail(w, notHereYet, "waited %s for the transaction of %s: %v", h.ReadWait, text, err)
		default:
			h.fail(w, unavailable, "%v", err)
		}
	}
}

// problemOf is what keeps a table from being up to date, or nil.
func problemOf(node *lockstep.Node, table string) error {
	for _, t := range node.Status().Tables {
		if t.Name == table {
			return t.Problem
		}
	}
	return nil
}
