package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pglockstep/lockstep/triggers"
)

// server is what server.sql tells.
type server struct {
	VersionNum  int
	Version     string
	Database    string
	Role        string
	Prepared    int // max_prepared_transactions
	Replication string
	Vacuums     bool // autovacuum and what it goes by are on
	SeesAll     bool // what other roles' sessions do
	QueueUse    float64
	Managed     string // the role that a managed server gives its administrators; "" where there is none
}

// providers are known by the role that they give to administrators.
var providers = map[string]string{
	"rds_superuser": "Amazon RDS or Aurora", "cloudsqlsuperuser": "Google Cloud SQL", "alloydbsuperuser": "Google AlloyDB",
	"azure_pg_admin": "Azure Database for PostgreSQL", "neon_superuser": "Neon",
}

// ask reads what every check goes by.
func (e *exam) ask(ctx context.Context) (err error) {
	if e.server, err = queryOne[server](ctx, e, "server.sql"); err != nil {
		return err
	}
	e.report.Server, e.report.Database, e.report.Role = e.server.Version, e.server.Database, e.server.Role
	e.report.Provider = providers[e.server.Managed]
	e.tables, err = triggers.Tables(ctx, e.pool, triggers.Options{Schema: e.Schema})
	switch {
	case err == nil:
		e.report.Installed = true
	case errors.Is(err, triggers.ErrNotInstalled):
		e.add(Finding{
			Check: "install", Level: Warning, What: "there is no schema " + e.Schema + " with an outbox in database " + e.server.Database,
			Why: "no change is captured, and only the server was examined", Mend: "lockstep install --table ..., or name another --schema",
		})
	case denied(err) != "":
		e.add(Finding{
			Check: "install", Level: Unseen, What: "role " + e.server.Role + " may not read schema " + e.Schema + ": " + denied(err),
			Why: "only the server was examined", Mend: e.readerGrants(),
		})
	default:
		return err
	}
	return nil
}

func (e *exam) checkServer(context.Context) error {
	if e.server.VersionNum < 140000 {
		e.add(Finding{
			Check: "server", Level: Wrong, What: "the server is PostgreSQL " + e.server.Version,
			Why: "lockstep needs 14 or later", Mend: "upgrade the server",
		})
	}
	if e.report.Provider != "" {
		e.add(Finding{
			Check: "server", Level: Note, What: "this looks like " + e.report.Provider + ": there is a role " + e.server.Managed,
			Why: "docs/operations.md says what is denied there, and what a node does instead",
		})
	}
	return nil
}

// checkPooler goes by the process that a connection was told of at its start: a
// pooler makes one up.
func (e *exam) checkPooler(ctx context.Context) error {
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var pid uint32
	if err := conn.QueryRow(ctx, "select pg_catalog.pg_backend_pid()").Scan(&pid); err != nil {
		return err
	}
	if pid != conn.Conn().PgConn().PID() {
		e.add(Finding{
			Check: "pooler", Level: Note, What: "a pooler stands in front: the connection is served by another process than it was told of",
			Why:  "in transaction mode LISTEN hears nothing and settings do not stay: a node polls at every beat and makes its settings in each transaction",
			Mend: "let nodes connect past it, if a beat (250 ms) is too late; give a pool that goes through it default_query_exec_mode=exec",
		})
	}
	return nil
}

// checkReplicationRole looks for sessions that write as a replica: in them the
// guard on lockstep's own tables drops what a node writes there.
func (e *exam) checkReplicationRole(ctx context.Context) error {
	type set struct{ Role, Database string }
	found, err := query[set](ctx, e, "replication_role.sql")
	if err != nil {
		return err
	}
	const why = "in such a session a node cannot register and nothing is trimmed, foreign keys are not checked and the application's own triggers are silent; its writes are captured all the same"
	for _, s := range found {
		whose, mend := "all roles", "ALTER DATABASE "+quote(s.Database)+" RESET session_replication_role"
		switch {
		case s.Role != "" && s.Database != "":
			whose, mend = "role "+s.Role, "ALTER ROLE "+quote(s.Role)+" IN DATABASE "+quote(s.Database)+" RESET session_replication_role"
		case s.Role != "":
			whose, mend = "role "+s.Role, "ALTER ROLE "+quote(s.Role)+" RESET session_replication_role"
		}
		e.add(Finding{Check: "replication role", Level: Wrong, What: "session_replication_role is set to replica for " + whose, Why: why, Mend: mend})
	}
	if len(found) == 0 && e.server.Replication == "replica" {
		e.add(Finding{
			Check: "replication role", Level: Wrong, What: "session_replication_role is replica in a session that asked for nothing", Why: why,
			Mend: "set session_replication_role = origin in postgresql.conf and in the connection string's options",
		})
	}
	return nil
}

func (e *exam) checkPublications(ctx context.Context) error {
	type publication struct {
		Name string
		All  bool
	}
	found, err := query[publication](ctx, e, "publications.sql")
	if err != nil {
		return err
	}
	for _, p := range found {
		what := "publication " + p.Name + " carries the outbox"
		if p.All {
			what = "publication " + p.Name + " is FOR ALL TABLES, and so carries the outbox"
		}
		f := Finding{
			Check: "publications", Level: Warning, What: what,
			Why:  "a subscriber without schema " + e.Schema + " stops at once, with all that it replicates; one that has it receives every event for nothing",
			Mend: "publish tables by name, or run lockstep install at every subscriber (docs/deploy.md)",
		}
		if !e.report.Installed {
			f.Mend += ", then here with --published"
		}
		e.add(f)
	}
	return nil
}

func (e *exam) checkTwoPhase(ctx context.Context) error {
	if e.server.Prepared == 0 {
		return nil
	}
	f := Finding{
		Check: "two-phase commit", Level: Note, What: fmt.Sprintf("max_prepared_transactions is %d", e.server.Prepared),
		Why: "a transaction that has notified cannot be prepared: install leaves the bell off unless --bell notify is given, and nodes poll",
	}
	if e.report.Installed {
		log, err := e.overview(ctx)
		if err != nil {
			return err
		}
		f.Why = "the bell is " + log.Bell + ", so that captured writes can be prepared"
		switch log.Bell {
		case "off":
			f.Why += ": nodes poll at every beat"
		case "notify":
			f.Level, f.Why = Warning, "the bell is on: PREPARE TRANSACTION fails after a captured write"
			f.Mend = "lockstep install --bell off, or wal where it can be had; or, if nobody prepares, max_prepared_transactions = 0"
		}
	}
	e.add(f)
	return nil
}

func (e *exam) checkQueue(context.Context) error {
	if e.server.QueueUse < e.QueueUse {
		return nil
	}
	f := Finding{
		Check: "notification queue", Level: Warning, What: fmt.Sprintf("the notification queue is %.2g%% full", 100*e.server.QueueUse),
		Why:  "a session that listens and does not leave its transaction keeps it from being emptied; above half of it the bell falls silent and nodes poll; when it is full every commit that notifies fails",
		Mend: "end the session that the server's log names (\"The server process with PID ... is among those with the oldest transactions\"), or the oldest of the long transactions",
	}
	if e.server.QueueUse >= 0.5 {
		f.Level = Wrong
	}
	e.add(f)
	return nil
}

// quote is an identifier as SQL writes it, with quotes where they are needed or do no harm.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
