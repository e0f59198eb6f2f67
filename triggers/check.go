package triggers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// harmless are the kinds of findings that leave capture right.
var harmless = []string{"renamed", "excluded column", "owner cannot read", "wrong owner", "bell", "another cluster", "unguarded"}

// ErrCapture means that a table's changes are not captured as they should be.
var ErrCapture = errors.New("its capture has drifted")

// Check says whether the capture of a registered table can be trusted: nil, or
// an error that wraps ErrCapture and names in one line what is wrong and what
// to run. A reader's grants are enough.
func Check(ctx context.Context, q querier, o Options, table string) error {
	o = o.withDefaults()
	found, err := drift(ctx, q, o)
	if err != nil {
		return err
	}
	var oid uint32
	err = q.QueryRow(ctx, "select relid from "+tablesOf(o)+" where name = $1", table).Scan(&oid)
	if err != nil {
		return fmt.Errorf("triggers: look up %s in the register: %w", table, err)
	}
	reasons, err := refusals(ctx, q, o, oid)
	if err != nil {
		return err
	}
	mend := ""
	for _, f := range found {
		if f.Table == table && !slices.Contains(harmless, f.Kind) {
			reasons, mend = append(reasons, f.What), f.Mend
		}
	}
	switch {
	case len(reasons) == 0:
		return nil
	case mend == "":
		return fmt.Errorf("%w: %s", ErrCapture, strings.Join(reasons, "; "))
	}
	return fmt.Errorf("%w: %s: run %s", ErrCapture, strings.Join(reasons, "; "), mend)
}
