package pgserver

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Superuser is the name of the role that initdb makes.
const Superuser = "postgres"

// Config describes a private cluster. The zero value is a good test server.
type Config struct {
	// Options tells where to look for the programs. Not used where Binaries is given.
	Options Options
	// Binaries are the programs to run. Default: what Find finds.
	Binaries Binaries
	// Dir is where the cluster's files go; it must be missing or empty, and it stays
	// when the server ends. Default: a new temporary directory, which does not stay.
	Dir string
	// Port is the TCP port on 127.0.0.1. Default: a free one.
	Port int
	// Trust lets everybody on this machine in without a password. Default: a random
	// password, asked for over TCP and over the socket.
	Trust bool
	// Settings are lines of postgresql.conf, by name; they go over our own, which suit
	// tests: fsync off, max_connections 200, time zone UTC. Values are quoted for you.
	Settings map[string]string
	// InitArgs are further arguments of initdb, such as "--data-checksums". Default:
	// none beside UTF-8 and locale C.
	InitArgs []string

	drawPort func() (int, error) // nil means freePort; a test draws one that is taken
}

// Mode says how a server is stopped, as pg_ctl has it.
type Mode int

const (
	// Fast ends all sessions, writes a checkpoint and stops.
	Fast Mode = iota
	// Immediate stops at once; the next start recovers as after a crash.
	Immediate
)

// testSettings make a server that is quick and forgets on power failure.
var testSettings = map[string]string{
	"fsync":                   "off",
	"full_page_writes":        "off",
	"max_connections":         "200",
	"timezone":                "UTC",
	"log_timezone":            "UTC",
	"log_line_prefix":         "%m [%p] %q%u@%d ",
	"unix_socket_permissions": "0700",
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$.]*$`)

// configFile is what is appended to postgresql.conf.
func (c Config) configFile(p paths) (string, error) {
	settings := maps.Clone(testSettings)
	maps.Copy(settings, c.Settings)
	settings["listen_addresses"] = "127.0.0.1"
	settings["unix_socket_directories"] = p.socket
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if !settingName.MatchString(name) {
			return "", fmt.Errorf("pgserver: not a setting's name: %q", name)
		}
		if strings.ContainsAny(value, "\n\r\x00") {
			return "", fmt.Errorf("pgserver: setting %s: a value is one line", name)
		}
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value)
		fmt.Fprintf(&b, "%s = '%s'\n", name, quoted)
	}
	return b.String(), nil
}
