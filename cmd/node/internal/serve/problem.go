package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// problems is where the types of problems are explained; a type is this and its word.
const problems = "https://github.com/pglockstep/lockstep/blob/main/docs/http.md#"

// kind is a sort of failure: the word by which programs tell it from others of the
// same status, and its title for people.
type kind struct {
	status      int
	word, title string
}

var (
	badRequest     = kind{http.StatusBadRequest, "bad-request", "The request cannot be read"}
	unauthorized   = kind{http.StatusUnauthorized, "unauthorized", "The bearer token is missing or wrong"}
	foreign        = kind{http.StatusForbidden, "foreign", "The request names a foreign host or comes from a foreign page"}
	forbidden      = kind{http.StatusForbidden, "forbidden", "The node's role may not write this"}
	notFound       = kind{http.StatusNotFound, "not-found", "There is no such page, table or row"}
	notAllowed     = kind{http.StatusMethodNotAllowed, "not-allowed", "The method is not allowed here"}
	conflict       = kind{http.StatusConflict, "conflict", "The write conflicts with what is there"}
	otherHistory   = kind{http.StatusPreconditionFailed, "other-history", "The token belongs to another history"}
	tooLarge       = kind{http.StatusRequestEntityTooLarge, "too-large", "The body is too large"}
	notJSON        = kind{http.StatusUnsupportedMediaType, "not-json", "The body is not application/json"}
	refused        = kind{http.StatusUnprocessableEntity, "refused", "The table refuses the row"}
	failed         = kind{http.StatusInternalServerError, "failed", "Something unforeseen went wrong"}
	unavailable    = kind{http.StatusServiceUnavailable, "unavailable", "This is not available now"}
	notHereYet     = kind{http.StatusGatewayTimeout, "not-here-yet", "The token's transaction is not visible here yet"}
	outcomeUnknown = kind{http.StatusGatewayTimeout, "outcome-unknown", "Whether the write was committed is not known"}
)

// problem is the body of an error, as RFC 9457 has it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"` // one line
}

// fail answers with a problem. What is not available now may be tried again soon.
func (h *Handler) fail(w http.ResponseWriter, k kind, format string, args ...any) {
	detail := h.Scrub(strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	if k == unavailable || k == notHereYet {
		header.Set("Retry-After", "1")
	}
	w.WriteHeader(k.status)
	// The client has gone, if it fails.
	_ = json.NewEncoder(w).Encode(problem{problems + k.word, k.title, k.status, detail})
}
