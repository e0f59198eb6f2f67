package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// style is how a line looks on a terminal.
type style string

const (
	plain style = ""
	dim   style = "\x1b[2m"
	bad   style = "\x1b[31m"
	good  style = "\x1b[32m"
	watch style = "\x1b[33m"
	bold  style = "\x1b[1m"
)

// errUnheard ends a demo that nobody listens to any more.
var errUnheard = errors.New("nobody reads what the demo says")

// voice says what happens, as it happens.
type voice struct {
	mu      sync.Mutex
	out     io.Writer
	unheard context.CancelCauseFunc
	began   time.Time
	colour  bool
	also    func(style, string) // hears it too; nil: nobody does
}

func newVoice(out io.Writer, unheard context.CancelCauseFunc) *voice {
	return &voice{out: out, unheard: unheard, began: time.Now(), colour: colours(out)}
}

// colours is whether out is a terminal whose owner likes colours.
func colours(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (v *voice) paint(s style, text string) string {
	if !v.colour || s == plain {
		return text
	}
	return string(s) + text + "\x1b[0m"
}

// say prints a line with the time since the demo began.
func (v *voice) say(s style, format string, args ...any) {
	at := v.paint(dim, fmt.Sprintf("%6.1f s", time.Since(v.began).Seconds()))
	text := fmt.Sprintf(format, args...)
	v.print(at + "  " + v.paint(s, text))
	if v.also != nil {
		v.also(s, text)
	}
}

// sayIt is say, and returns the text.
func (v *voice) sayIt(s style, format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	v.say(s, "%s", text)
	return text
}

// line prints a line of the account.
func (v *voice) line(s style, format string, args ...any) {
	v.print(v.paint(s, fmt.Sprintf(format, args...)))
}

func (v *voice) print(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := fmt.Fprintln(v.out, line); err != nil {
		v.unheard(fmt.Errorf("%w: %w", errUnheard, err))
	}
}
