package main

import (
	"fmt"
	"slices"
	"strings"
)

// columnsByTable takes apart what --exclude-columns was given: table=column,... each time, as SQL writes the names. Of the
// tables in all no column is left out.
func columnsByTable(given, all []string) (map[string][]string, error) {
	byTable := map[string][]string{}
	for _, table := range all {
		byTable[table] = []string{}
	}
	for _, text := range given {
		parts := splitOutsideQuotes(text, '=')
		if len(parts) != 2 || parts[0] == "" {
			return nil, fmt.Errorf("--exclude-columns %s: want table=column,... such as public.employees=ssn,photo", text)
		}
		if strings.TrimSpace(parts[1]) == "" {
			return nil, fmt.Errorf("--exclude-columns %s names no column: say --all-columns %s to have all of them captured", text, parts[0])
		}
		if _, twice := byTable[parts[0]]; slices.Contains(all, parts[0]) {
			return nil, fmt.Errorf("table %s is in --all-columns and in --exclude-columns: give one", parts[0])
		} else if twice {
			return nil, fmt.Errorf("--exclude-columns names table %s twice: give all of its columns in one list", parts[0])
		}
		for _, c := range splitOutsideQuotes(parts[1], ',') {
			name, err := columnName(c)
			if err != nil {
				return nil, fmt.Errorf("--exclude-columns %s: %w", text, err)
			}
			byTable[parts[0]] = append(byTable[parts[0]], name)
		}
	}
	return byTable, nil
}

// columnName is the name that SQL means by a word: as it stands in double quotes, else in lower case.
func columnName(word string) (string, error) {
	word = strings.TrimSpace(word)
	if inner, ok := strings.CutPrefix(word, `"`); ok {
		inner, ok = strings.CutSuffix(inner, `"`)
		name := strings.ReplaceAll(inner, `""`, `"`)
		if ok && name != "" && strings.Count(inner, `"`) == 2*strings.Count(name, `"`) {
			return name, nil
		}
	} else if word != "" && !strings.ContainsAny(word, "\" \t\n=.") {
		return strings.ToLower(word), nil
	}
	return "", fmt.Errorf("%q is no column's name: write it as SQL does, quoted where SQL needs it", word)
}

// splitOutsideQuotes splits at a byte, but not within double quotes.
func splitOutsideQuotes(s string, at byte) (parts []string) {
	from, quoted := 0, false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == at && !quoted:
			parts, from = append(parts, s[from:i]), i+1
		}
	}
	return append(parts, s[from:])
}
