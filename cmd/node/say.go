package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"

	"github.com/pglockstep/lockstep/internal/line"
	"github.com/pglockstep/lockstep/outbox"
	"github.com/pglockstep/lockstep/triggers"
)

// secrets are the passwords that this process knows, in every way in which
// they may be written.
var (
	secretsMu sync.Mutex
	secrets   []string
)

func keepSecret(s string) {
	if s == "" {
		return
	}
	quoted, _ := json.Marshal(s) // a string always encodes
	secretsMu.Lock()
	defer secretsMu.Unlock()
	secrets = append(secrets, s, string(quoted[1:len(quoted)-1]), url.QueryEscape(s), url.PathEscape(s), url.UserPassword("", s).String()[1:])
}

// scrub strikes the passwords out of a text. Everything that this process
// prints, logs or serves as an error goes through it.
func scrub(text string) string {
	secretsMu.Lock()
	defer secretsMu.Unlock()
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "********")
	}
	return text
}

// scrubbed is a log without passwords. The logger writes a whole entry at a time.
type scrubbed struct{ to io.Writer }

func (s scrubbed) Write(entry []byte) (int, error) {
	if _, err := io.WriteString(s.to, scrub(string(entry))); err != nil {
		return 0, err //nolint:wrapcheck // a writer is one call
	}
	return len(entry), nil
}

// oneLine is an error as a person reads it on a terminal: one line, what is
// wrong and what to do, without a password.
func oneLine(err error) string {
	text := err.Error()
	if tables := tableErrors(err); len(tables) > 0 {
		text = strings.Join(tables, "; ") // what is wrong with each, without the way that it took
	}
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	for cut := true; cut; {
		cut = false
		for _, place := range []string{"lockstep: ", "start: ", "replay: ", "open: ", "outbox: ", "triggers: "} {
			if rest, ok := strings.CutPrefix(text, place); ok {
				text, cut = rest, true
			}
		}
	}
	const hint = "lockstep install"
	if (errors.Is(err, outbox.ErrNotInstalled) || errors.Is(err, triggers.ErrNotInstalled)) && !strings.Contains(text, hint) {
		text += ": run " + hint
	}
	return line.One(scrub(text))
}

// tableErrors are the problems of tables inside an error, however they are joined.
func tableErrors(err error) []string {
	var found []string
	var walk func(error)
	walk = func(err error) {
		if t, ok := err.(*outbox.TableError); ok { //nolint:errorlint // the tree is walked by hand
			found = append(found, t.Error())
			return
		}
		switch e := err.(type) { //nolint:errorlint // the tree is walked by hand
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				walk(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return found
}
