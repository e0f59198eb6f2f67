package pgserver

import "testing"

func TestVersionIsNumericAsServerVersionNumHasIt(t *testing.T) {
	for out, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 150018,
		"postgres (PostgreSQL) 18.4\n":                           180004,
		"postgres (PostgreSQL) 14.0":                             140000,
		"postgres (PostgreSQL) 19beta1":                          190000,
		"postgres (PostgreSQL) 9.6.24":                           90006,
	} {
		got, err := parseVersion(out)
		if err != nil || got != want {
			t.Errorf("parseVersion(%q) = %d, %v; want %d", out, got, err, want)
		}
	}
}

func TestWhatIsNoVersionIsAnError(t *testing.T) {
	for _, out := range []string{"", "psql (PostgreSQL)", "mysqld 8.0.36", "postgres (PostgreSQL) 99999999999999999999"} {
		if got, err := parseVersion(out); err == nil {
			t.Errorf("parseVersion(%q) = %d, want an error", out, got)
		}
	}
}
