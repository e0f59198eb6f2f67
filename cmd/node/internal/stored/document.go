package stored

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pglockstep/lockstep"
)

// DocumentKey is the key of a document, under which a node has it; columns are the primary key's.
func DocumentKey(doc []byte, columns []string) (string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return "", fmt.Errorf("a row is no JSON: %w", err)
	}
	parts := make([]string, len(columns))
	for i, c := range columns {
		if members[c] == nil {
			return "", errors.New("a document has no " + c)
		}
		parts[i] = string(members[c])
	}
	if len(parts) == 1 {
		return lockstep.DocumentKey(parts[0]) //nolint:wrapcheck // named there
	}
	return lockstep.DocumentKey("[" + strings.Join(parts, ",") + "]") //nolint:wrapcheck // named there
}
