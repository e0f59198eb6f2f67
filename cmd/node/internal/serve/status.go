package serve

import (
	"encoding/json"
	"net/http"
)

// status is the node's own account.
func (h *handler) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(h.node.Status()) // the client has gone, if it fails
}
