// Package line makes one line of a text that has several, as the errors of
// a connection that failed at each of a server's addresses have.
package line

import "strings"

// One joins the lines of a text: by a blank after a colon, else by "; ".
func One(text string) string {
	if !strings.ContainsAny(text, "\n\r") {
		return text
	}
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		part = strings.TrimSpace(part)
		switch {
		case part == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteByte(' ')
		case b.Len() > 0:
			b.WriteString("; ")
		}
		b.WriteString(part)
	}
	return b.String()
}
