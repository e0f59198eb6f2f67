package appsql

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/pglockstep/lockstep/triggers"
)

// exception plays one of the published exceptions: what captured tables do otherwise is exactly this, and
// its remedy, where there is one, makes no difference.
func exception(t *testing.T, name string, want ...string) {
	t.Helper()
	h := how{bell: triggers.BellNotify}
	plain, captured := playBoth(t, load(t, "sql/exceptions/"+name+".sql"), h)
	if got := difference(said(plain), said(captured)); !slices.Equal(got, want) {
		t.Errorf("captured tables give (+) where plain ones give (-)\n%s\nthe published exception is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	remedy := "sql/exceptions/" + name + ".remedy.sql"
	if _, err := fs.Stat(scripts, remedy); errors.Is(err, fs.ErrNotExist) {
		return
	}
	plain, captured = playBoth(t, load(t, remedy), h)
	if d := difference(plain, captured); len(d) > 0 {
		t.Errorf("the remedy does not do: captured tables give (+) where plain ones give (-)\n%s", strings.Join(d, "\n"))
	}
}

// said is a transcript without the details of errors and notices, and without what is left at the end.
func said(transcript string) string {
	transcript, _, _ = strings.Cut(transcript, "left in ")
	var b strings.Builder
	for line := range strings.Lines(transcript) {
		if !strings.HasPrefix(line, "     ") {
			b.WriteString(strings.ReplaceAll(line, `"temp_file_limit"`, "temp_file_limit")) // quoted since 18
		}
	}
	return b.String()
}

func TestLastvalAfterACapturedWriteIsTheOutboxsAndCurrvalIsTheApplications(t *testing.T) {
	exception(t, "lastval",
		"- 1", "- SELECT 1", "+ ERROR 42501: permission denied for sequence outbox_seq_seq")
}

func TestPreparingATransactionNeedsTheBellOff(t *testing.T) {
	exception(t, "prepare",
		"- PREPARE TRANSACTION", "+ ERROR 0A000: cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY",
		"- ROLLBACK PREPARED", `+ ERROR 42704: prepared transaction with identifier "appsql" does not exist`)
}

func TestRefreshingAMaterializedViewThatWritesNeedsTheBellOff(t *testing.T) {
	exception(t, "restricted",
		"- REFRESH MATERIALIZED VIEW", "+ ERROR 42501: cannot fire deferred trigger within security-restricted operation", "- 1", "- SELECT 2", "+ SELECT 1")
}

func TestTransitionTablesCountAgainstTempFileLimit(t *testing.T) {
	exception(t, "temp_file_limit",
		"- UPDATE 20001", "+ ERROR 53400: temporary file size exceeds temp_file_limit (1024kB)", "- 20000", "+ 0")
}

func TestATriggerCannotEmptyATableThatItsStatementCascadedInto(t *testing.T) {
	exception(t, "cascade_truncate",
		"- DELETE 1", `+ ERROR 55006: cannot TRUNCATE "c" because it has pending trigger events`,
		"- SELECT 0", "+ 1	1", "+ 2	2", "+ SELECT 2")
}

func TestAttachingACapturedPartitionedTableNeedsItsRowTriggerGone(t *testing.T) {
	exception(t, "attach",
		"- ALTER TABLE", `+ ERROR 42710: trigger "lockstep_row" for relation "q" already exists`, "- 1	7", "- 2	7", "- SELECT 2", "+ SELECT 0")
}

func TestTheNamesOfItsTriggersAreTaken(t *testing.T) {
	exception(t, "names",
		"- CREATE TRIGGER", `+ ERROR 42710: trigger "lockstep_insert" for relation "a" already exists`)
}

func TestCommandsOnTheWholeDatabaseMeetItsTables(t *testing.T) {
	plain, captured := playBoth(t, load(t, "sql/exceptions/whole_database.sql"), how{bell: triggers.BellNotify})
	d := difference(said(plain), said(captured))
	if len(d) == 0 {
		t.Error("no difference")
	}
	for _, line := range d {
		if !strings.HasPrefix(line, "+ WARNING 01000: ") {
			t.Error(line)
		}
	}
	plain, captured = playBoth(t, load(t, "sql/exceptions/whole_database.remedy.sql"), how{bell: triggers.BellNotify})
	if d := difference(plain, captured); len(d) > 0 {
		t.Errorf("a command that names its table: %q", d)
	}
}

func TestRightsTakenFromPublicMustBeGiven(t *testing.T) {
	exception(t, "revoked", "- INSERT 0 1", "+ ERROR 42501: permission denied for function pg_notify")
}

// Nothing but the catalogue and the statistics: who counts triggers, locks or grants counts ours.
func TestTheCatalogueShowsWhatIsInstalled(t *testing.T) {
	exception(t, "catalogue",
		"- SELECT 0", "+ lockstep_delete	DELETE", "+ lockstep_insert	INSERT", "+ lockstep_update	UPDATE", "+ SELECT 3",
		"- SELECT 0", "+ lockstep_capture	SELECT", "+ SELECT 1", "- f", "+ t",
		"- SELECT 1", "+ outbox	RowExclusiveLock", "+ outbox	AccessShareLock", "+ outbox_pkey	AccessShareLock", // read once a session
		"+ outbox_seq_seq	RowExclusiveLock", "+ SELECT 5",
		"- SELECT 1", "+ horizon", "+ left_out", "+ meta", "+ nodes", "+ outbox", "+ relays", "+ tables", "+ SELECT 8",
		"+ NOTICE 00000: trigger lockstep_delete on public.a", "+ NOTICE 00000: trigger lockstep_insert on public.a",
		"+ NOTICE 00000: trigger lockstep_truncate on public.a", "+ NOTICE 00000: trigger lockstep_update on public.a")
}
