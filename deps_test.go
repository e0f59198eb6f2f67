package lockstep_test

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pglockstep/lockstep"

// goList runs go list.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %q: %v", args, err)
	}
	return strings.Fields(string(out))
}

// modules are the modules that a package links, std left out.
func modules(t *testing.T, pkg string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, m := range goList(t, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", pkg) {
		found[m] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// What an embedder links: our own code, and
var embedders = []string{
	"github.com/google/uuid",         // history ids, and keys that are uuids
	"github.com/jackc/pgpassfile",    // pgx
	"github.com/jackc/pgservicefile", // pgx
	"github.com/jackc/pgx/v5",        // Postgres
	"github.com/jackc/puddle/v2",     // pgxpool
	module,
	"github.com/puzpuzpuz/xsync/v4", // the map under the cache
	"golang.org/x/sync",             // puddle
	"golang.org/x/text",             // pgx, for SCRAM passwords
}

func TestEmbedderLinksAShortListOfModules(t *testing.T) {
	if got := modules(t, "."); !slices.Equal(got, embedders) {
		t.Errorf("the root package links the modules\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(embedders, "\n"))
	}
	// The fake is linked by tests only, and must not make them slow to build.
	if got := modules(t, "./locksteptest"); !slices.Equal(got, embedders) {
		t.Errorf("locksteptest links %q", got)
	}
	// Who wants metrics links the client, and no more of it than to describe them.
	for _, dep := range goList(t, "-deps", "./metrics") {
		if strings.HasPrefix(dep, "github.com/prometheus/client_golang/prometheus/promhttp") {
			t.Errorf("metrics links %s", dep)
		}
	}
	for _, pkg := range []string{".", "./locksteptest"} {
		for _, dep := range goList(t, "-deps", pkg) {
			if slices.Contains([]string{"testing", "flag", "net/http", "expvar", "os/exec"}, dep) ||
				strings.HasPrefix(dep, module+"/internal/pg") || strings.HasPrefix(dep, module+"/cmd") {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}

// arrows are what each package may import of ours. Whoever adds an arrow
// changes docs/design.md, section 8, with it.
var arrows = map[string][]string{
	"triggers":        {"internal/psql"},
	"outbox":          {"internal/psql", "internal/pause", "outbox/rowjson"},
	"outbox/rowjson":  {},
	"outbox/wal":      {"outbox", "internal/psql"},
	"outbox/stream":   {"outbox", "replay", "internal/pause"},
	"cache":           {},
	"replay":          {"outbox", "cache", "internal/line", "internal/pause"},
	"":                {"replay", "outbox", "cache", "triggers", "internal/rowmap", "internal/bridge", "internal/line", "internal/pause", "internal/checkpoint"},
	"metrics":         {"", "replay"},
	"locksteptest":    {"", "replay", "outbox", "internal/bridge"},
	"internal/bridge": {"replay", "outbox"},
	"internal/rowmap": {},
	"internal/psql":   {},
	"internal/line":   {},
	"internal/pause":  {},

	"internal/checkpoint": {},
}

func TestArrowsBetweenPackagesPointOneWay(t *testing.T) {
	for pkg, may := range arrows {
		path := strings.TrimSuffix(module+"/"+pkg, "/")
		for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, path) {
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			if short := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/"); !slices.Contains(may, short) {
				t.Errorf("package %q imports %q", pkg, short)
			}
		}
	}
	// The cache knows nothing of Postgres: not even pgx is below it.
	for _, dep := range goList(t, "-deps", "./cache") {
		if strings.Contains(dep, "pgx") {
			t.Errorf("cache imports %s", dep)
		}
	}
	// Replay drives a source and has no connection of its own.
	for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, "./replay") {
		if slices.Contains([]string{"net", "os", "github.com/jackc/pgx/v5/pgxpool", "github.com/jackc/pgx/v5/pgconn"}, imported) {
			t.Errorf("replay imports %s", imported)
		}
	}
	for _, pkg := range goList(t, "./...") {
		short := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
		leaf := strings.HasPrefix(short, "cmd/") || strings.HasPrefix(short, "integration") || strings.HasPrefix(short, "internal/pg")
		if _, known := arrows[short]; !known && !leaf && !strings.HasPrefix(short, "internal/") {
			t.Errorf("package %q has no place in the list of arrows", short)
		}
	}
}
