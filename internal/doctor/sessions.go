package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pglockstep/lockstep/internal/human"
)

// terminate is the mend for a session.
func terminate(pid int) string { return fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid) }

// who is a session as a person finds it.
func who(pid int, parts ...string) string {
	known := parts[:0:0]
	for _, p := range parts {
		if p != "" {
			known = append(known, p)
		}
	}
	if len(known) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, strings.Join(known, ", "))
}

// lasting is a duration of the server's as a person reads it.
func lasting(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

func (e *exam) checkTransactions(ctx context.Context) error {
	type transaction struct {
		PID                                  int
		Role, Database, Program, From, State string
		Seconds                              float64
		Wrote, Snapshot                      bool
	}
	found, err := query[transaction](ctx, e, "transactions.sql", e.Long)
	if err != nil {
		return err
	}
	for _, t := range found {
		f := Finding{
			Check: "long transactions", Level: Warning, Mend: terminate(t.PID),
			What: fmt.Sprintf("%s has been in a transaction for %s, and is %s", who(t.PID, t.Program, t.Role, t.From), lasting(t.Seconds), orElse(t.State, "at work")),
		}
		switch {
		case t.Wrote:
			f.Why = "it has written: nothing newer than it can be trimmed, every node carries its id along, and DDL waits for its locks"
		case strings.HasPrefix(t.Program, "lockstep "):
			f.Level, f.Mend, f.Why = Note, "", "it is a node's, which loads; what is deleted meanwhile cannot be vacuumed"
		case t.Snapshot:
			f.Why = "its snapshot holds back vacuum: what trimming deletes stays in the outbox, and every fetch steps over it"
		default:
			f.Level, f.Why = Note, "it holds no snapshot and has written nothing; its locks may hold up install and migrations"
		}
		if t.State == "idle in transaction" && f.Mend != "" {
			f.Mend += "; idle_in_transaction_session_timeout ends such sessions by itself"
		}
		if t.Database != e.server.Database {
			f.Detail = append(f.Detail, "it is in database "+t.Database+": transaction ids are the whole cluster's")
		}
		e.add(f)
	}
	return e.hidden(ctx)
}

// hidden says of how many sessions this role sees nothing.
func (e *exam) hidden(ctx context.Context) error {
	if e.server.SeesAll {
		return nil
	}
	type hidden struct {
		Sessions int
		PID      int
		Xids     int64
	}
	h, err := queryOne[hidden](ctx, e, "hidden.sql")
	if err != nil || h.Sessions == 0 {
		return err
	}
	f := Finding{
		Check: "long transactions", Level: Unseen, What: fmt.Sprintf("%d sessions of other roles do not show role %s what they do", h.Sessions, e.server.Role),
		Why:  "a long transaction among them, or an old snapshot of a standby, was not found",
		Mend: "GRANT pg_read_all_stats TO " + quote(e.server.Role),
	}
	if h.PID != 0 {
		f.Detail = []string{fmt.Sprintf("the oldest of them that has written is process %d: %d transactions have begun since", h.PID, h.Xids)}
	}
	e.add(f)
	return nil
}

func (e *exam) checkPrepared(ctx context.Context) error {
	type prepared struct {
		GID, Owner, Database string
		Seconds              float64
		Here                 bool
	}
	found, err := query[prepared](ctx, e, "prepared.sql", e.Long)
	if err != nil {
		return err
	}
	for _, p := range found {
		f := Finding{
			Check: "prepared transactions", Level: Warning, What: fmt.Sprintf("prepared transaction %s of %s has been waiting for %s", p.GID, p.Owner, lasting(p.Seconds)),
			Why:  "it survives restarts and is in flight until somebody ends it: nothing newer can be trimmed, vacuum is held back, and its locks stay",
			Mend: "ask its transaction manager, then ROLLBACK PREPARED " + p.GID + " or COMMIT PREPARED " + p.GID,
		}
		if !p.Here {
			f.Mend += ", in database " + p.Database
		}
		e.add(f)
	}
	return nil
}

// checkSlots looks at what replication holds back: snapshots, and the log.
func (e *exam) checkSlots(ctx context.Context) error {
	const why = "what is deleted since cannot be vacuumed in any database: the outbox grows, and every fetch steps over what was trimmed"
	type slot struct {
		Name, Kind string
		Active     bool
		Age        int64
		WAL        string
		Kept       int64
	}
	slots, err := query[slot](ctx, e, "slots.sql")
	if err != nil {
		return err
	}
	for _, s := range slots {
		name := fmt.Sprintf("%s replication slot %s", s.Kind, s.Name)
		if s.Age > e.OldXids {
			f := Finding{
				Check: "old snapshots", Level: Warning, What: fmt.Sprintf("%s holds a snapshot that is %d transactions old", name, s.Age), Why: why,
				Mend: "end the long query on its standby, or set hot_standby_feedback = off there",
			}
			if !s.Active {
				f.Mend = "SELECT pg_drop_replication_slot('" + s.Name + "'), if nobody will come back to it"
			}
			e.add(f)
		}
		if !s.Active && s.Kept > e.MaxWAL {
			e.add(Finding{
				Check: "old snapshots", Level: Warning, What: fmt.Sprintf("nobody reads %s, which keeps %s of the log", name, human.Bytes(s.Kept)),
				Why:  "the log fills the disk; a full disk stops the server, and with it every write",
				Mend: "SELECT pg_drop_replication_slot('" + s.Name + "'), if nobody will come back to it; max_slot_wal_keep_size bounds it",
			})
		}
	}
	type standby struct {
		PID           int
		Program, From string
		Age           int64
	}
	standbys, err := query[standby](ctx, e, "standbys.sql")
	if err != nil {
		return err
	}
	for _, s := range standbys {
		if s.Age > e.OldXids {
			e.add(Finding{
				Check: "old snapshots", Level: Warning, What: fmt.Sprintf("standby %s holds a snapshot that is %d transactions old", who(s.PID, s.Program, s.From), s.Age), Why: why,
				Mend: "end the long query there, or set hot_standby_feedback = off there",
			})
		}
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
