package main

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"

	"github.com/google/pprof/profile"
)

// takers are what processor time goes to. A sample belongs to the innermost function that one of them names, else to the last.
var takers = []struct {
	name string
	of   []string // what a function's name begins with
}{
	{"collecting garbage", []string{"runtime.gcBgMark", "runtime.gcAssist", "runtime.gcDrain", "runtime.gcStart", "runtime.gcMark", "runtime.bgsweep", "runtime.bgscavenge", "runtime.deductSweepCredit"}},
	{"allocating", []string{"runtime.mallocgc"}},
	{"reading the file, and its sums", []string{"crypto/", "hash/", module + "internal/checkpoint."}},
	{"decoding documents", []string{module + "outbox/rowjson."}},
	{"decoding values", []string{module + "internal/rowmap.", "github.com/jackc/pgx/v5/pgtype."}},
	{"the map and its versions", []string{module + "cache."}},
	{"talking to Postgres", []string{"github.com/jackc/pgx/v5", "net."}},
	{rest, nil},
}

const (
	module = "github.com/pglockstep/lockstep/"
	rest   = "the rest"
)

// taker is whom a stack, innermost first, belongs to.
func taker(stack []*profile.Location) string {
	for _, l := range stack {
		for _, line := range l.Line {
			for _, t := range takers {
				for _, prefix := range t.of {
					if strings.HasPrefix(line.Function.Name, prefix) {
						return t.name
					}
				}
			}
		}
	}
	return rest
}

// spending is the processor time of this process while it did something, by what it went to.
type spending map[string]int64

// watch adds what goes by while fn runs; a nil one nothing.
func (s spending) watch(fn func() error) error {
	if s == nil {
		return fn()
	}
	var raw bytes.Buffer
	if err := pprof.StartCPUProfile(&raw); err != nil {
		return err
	}
	err := fn()
	pprof.StopCPUProfile()
	p, parseErr := profile.Parse(&raw)
	if err := errors.Join(err, parseErr); err != nil {
		return err
	}
	for _, sample := range p.Sample {
		s[taker(sample.Location)] += sample.Value[0]
	}
	return nil
}

// say puts the shares into a table of a part, in which what is a row.
func (s spending) say(b *bench, table, what string) {
	var all int64
	for _, n := range s {
		all += n
	}
	line := ""
	for _, t := range takers {
		share := 100 * float64(s[t.name]) / float64(max(1, all))
		b.cell(whereTimeGoes+table, what, t.name+", %", "%", fmt.Sprintf("%d samples of pprof, 100 a second and core", all), series{share})
		line += fmt.Sprintf(", %s %s%%", t.name, number(share))
	}
	if all > 0 {
		fmt.Fprintf(b.print, "  where the time goes: %s%s\n", what, line)
	}
}
