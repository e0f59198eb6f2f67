package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/pglockstep/lockstep"
)

// put writes the body's document to the row of a key.
func (h *Handler) put(w http.ResponseWriter, r *http.Request, t *documents, key string) {
	if h.conditional(w, r) {
		return
	}
	doc, ok := h.document(w, r, t, key)
	if !ok {
		return
	}
	ctx, cancel := h.writing(r)
	defer cancel()
	inserted, token, err := lockstep.PutDocument(ctx, t, doc)
	if err != nil {
		h.writeFailed(w, err)
		return
	}
	h.written(w, inserted, token)
}

// remove deletes the row of a key.
func (h *Handler) remove(w http.ResponseWriter, r *http.Request, t *documents, key string) {
	if h.conditional(w, r) {
		return
	}
	ctx, cancel := h.writing(r)
	defer cancel()
	token, err := t.Delete(ctx, key)
	if err != nil {
		h.writeFailed(w, err)
		return
	}
	h.written(w, false, token)
}

// conditional answers a write that asks for a condition: whoever believes that it
// is kept would overwrite what they meant to spare.
func (h *Handler) conditional(w http.ResponseWriter, r *http.Request) bool {
	for _, name := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since", "Content-Range"} {
		if r.Header.Get(name) != "" {
			h.fail(w, badRequest, "a write takes no %s", name)
			return true
		}
	}
	return false
}

// written answers a write that this node shows.
func (h *Handler) written(w http.ResponseWriter, inserted bool, token lockstep.Token) {
	if token != (lockstep.Token{}) {
		w.Header().Set(tokenHeader, token.String())
	}
	status := http.StatusNoContent
	if inserted {
		status = http.StatusCreated
	}
	w.WriteHeader(status)
}

// writing bounds a write. A client that leaves does not end it: what became of
// it would not be known to anybody then.
func (h *Handler) writing(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), h.WriteWait)
}

// document reads the body as a document of the row of a key. The key's members
// may be left out, and must be the path's where they are there.
func (h *Handler) document(w http.ResponseWriter, r *http.Request, t *documents, key string) (json.RawMessage, bool) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, encoding := params["charset"], r.Header.Get("Content-Encoding")
	if err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") || encoding != "" && encoding != "identity" {
		h.fail(w, notJSON, "send the row as application/json in UTF-8, not encoded: this is %q %q", r.Header.Get("Content-Type"), encoding)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		h.fail(w, tooLarge, "a row may have %d bytes", large.Limit)
		return nil, false
	case err != nil:
		h.fail(w, badRequest, "the body cannot be read: %v", err)
		return nil, false
	case !json.Valid(body) || !utf8.Valid(body):
		h.fail(w, badRequest, "the body is no JSON in UTF-8")
		return nil, false
	}
	doc, err := withKey(body, t, key)
	if err != nil {
		h.fail(w, refused, "%v", err)
		return nil, false
	}
	return doc, true
}

// withKey puts the members of a key into a document that lacks them, in front:
// the rest stays as it was written.
func withKey(doc json.RawMessage, t *documents, key string) (json.RawMessage, error) {
	body := bytes.TrimSpace(doc)
	var have map[string]json.RawMessage
	if body[0] != '{' || json.Unmarshal(body, &have) != nil {
		return nil, errors.New("the body is no JSON object: want a row, such as {\"name\":\"value\"}")
	}
	columns, values := lockstep.DocumentKeyColumns(t), []json.RawMessage{json.RawMessage(key)}
	if len(columns) != 1 {
		values = nil
		if json.Unmarshal([]byte(key), &values) != nil || len(values) != len(columns) {
			return nil, fmt.Errorf("%s is no key of table %s: it has %d columns, %q", key, t.Name(), len(columns), columns)
		}
	}
	var front bytes.Buffer
	for i, c := range columns {
		if v, there := have[c]; there {
			if written, err := lockstep.DocumentKey(string(v)); err != nil || written != string(values[i]) {
				return nil, fmt.Errorf("the body has %q as %s, and the path has %s", c, v, values[i])
			}
			continue
		}
		name, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&front, "%s:%s,", name, values[i])
	}
	if front.Len() == 0 {
		return body, nil
	}
	if len(have) == 0 {
		front.Truncate(front.Len() - 1)
	}
	return append(append([]byte("{"), front.Bytes()...), body[1:]...), nil
}
