package main

import (
	"fmt"
	"slices"
	"strings"
)

// reason says of figures that do not reach what they are to reach where their time goes, which others show what part of it others
// pay as well on the same machine, and what might be tried next.
type reason struct {
	of    []string // what their names contain, one of each
	why   string
	floor []string // figures' names
	next  string
}

// Tables of profiles.
const (
	whereTimeGoes   = "where a node's processor time goes"
	whileCatchingUp = " while it catches up"
	whileStarting   = " while it starts"
)

const leastTrigger = "the least trigger that writes a log / no trigger"

var reasons = []reason{
	{
		of: []string{"16 writers, fsync on: triggers", "64 writers, fsync on: triggers"},
		why: "A writer pays for one row of JSON in a second table and its index, for the plpgsql function around it, and for the bell. The least trigger below keeps no promise: it does not know which event is a transaction's first, nor whether what it " +
			"writes is still there, and rings nobody. Writers, server and node share two cores here, " +
			"so that whatever capture takes of them is missing to the writers in full. integration/bench/instructions counts what a statement executes with capture and without, undisturbed by the rest.",
		floor: []string{"16 writers, fsync on: " + leastTrigger, "64 writers, fsync on: " + leastTrigger, "16 writers, fsync on: triggers and one live node / outbox insert alone"},
		next: "an UPDATE reads both images of a row to find out whether its key is the same, a tenth of what a commit costs. A trigger that names the key (WHEN, or UPDATE OF) would tell without being called, and is none: " +
			"ALTER COLUMN TYPE and DROP COLUMN of the key are refused while there is one. A trigger for each row has both images at hand, but is called for each; a WHEN that lets one row of a statement through is parsed anew by every statement, " +
			"which costs more than the call that it spares. What is left is capture that pins fewer settings where the types of the columns need none.",
	},
	{
		of:    []string{"1 writer, synchronous_commit off, latency"},
		why:   "The same, where nothing waits for a disk: a commit without a trigger takes no longer than two plpgsql calls and an insert do.",
		floor: []string{"1 writer, synchronous_commit off, latency: " + leastTrigger},
		next:  "as above. An application that needs it has one statement write many rows.",
	},
	{
		of:    []string{"100,000-row UPDATE in one statement: triggers / no trigger"},
		why:   "For each row that is written the server keeps both its images, makes its JSON, and puts that into a second table.",
		floor: []string{"100,000-row UPDATE in one statement: " + leastTrigger, "100,000-row UPDATE in one statement: triggers / outbox insert alone"},
		next:  "nothing here: making the JSON is half of it.",
	},
	{
		of: []string{"inserts by one plpgsql loop"},
		why: "Each statement in the loop is captured by a call of its own: a plpgsql function with its settings, and an insert into the log, where the table's own insert, which is planned, " +
			"takes a few microseconds. A loop of UPDATEs costs more: it reads each row back.",
		floor: []string{"20,000 inserts by one plpgsql loop: " + leastTrigger, "20,000 updates by one plpgsql loop: triggers / no trigger"},
		next:  "nothing here; one statement that inserts many rows costs what many rows cost.",
	},
	{
		of:    []string{"commit to visible: median, lockstep less bare NOTIFY"},
		why:   "A notification is a hint, so a node asks Postgres for what was committed: a second way there and back, in which a process of the server and a thread of the node have to wake up. And the bell's trigger runs within the commit.",
		floor: []string{askedLess, askedSameLess},
		next:  "fewer statements in a fetch. To fetch on the connection that listens gains little, as the figures above say.",
	},
	{
		of:   []string{"highest rate, 1 node, commit to visible: p99", "highest rate, 8 nodes, commit to visible: p99"},
		why:  "Sixteen writers without a pause, the server and the nodes share the cores, and each waits for one: the rate is what the writers reach, so there is always more to do than there are processors.",
		next: "nothing here; on more cores it is another figure.",
	},
	{
		of:    []string{"bells, 16 writers: WAL bell / outbox insert alone"},
		why:   "The insert alone is measured without a node. A node that follows, by whatever bell, has what each commit brings sent, decoded and applied on the same processors; where commits never cease the bell rests, and that is all it takes.",
		floor: []string{"bells, 16 writers: outbox insert, a node polls / no trigger", "bells, 16 writers: outbox insert alone / no trigger", "bells, 16 writers: WAL bell / outbox insert, a node polls"},
		next:  "nothing here: where commits never cease a node looks about 80 times a second, and less would delay what it shows by more than it spares the writers.",
	},
	{
		of:    []string{"catching up with 1% of"},
		why:   "The missed events are replayed at the rate below; loading, which it is compared with, decodes rows that come in binary and builds the map once.",
		floor: []string{"replay on one core"},
		next:  "as with the rate of replay.",
	},
	{
		of: []string{"idle: Get / xsync.Map", "idle: go-memdb / Get"},
		why: "A look-up in a large map is the time of two places in memory that no other look-up has touched lately: the bucket, and the version behind it. xsync.Map has the same two; " +
			"a Get reads besides which number is published, and the version's own, and does so in few instructions, so that the processor begins the next look-ups meanwhile.",
		floor: []string{"reads, 1,000,000 rows, uniform keys, 1 core, idle: go-memdb / xsync.Map"},
		next:  "rows that lie in the buckets themselves would spare one of the two places; how readers without locks could have them there is not known to us.",
	},
	{
		of:   []string{"replay on one core"},
		why:  "An event is received, its document is decoded, its version gets memory of its own and a place in the map, and the collector goes over it; the table \"" + whereTimeGoes + whileCatchingUp + "\" says how much of the time each takes.",
		next: "events in binary columns: a document is text, of which every number is parsed. It would tie the log to the table's columns as they were.",
	},
	{
		of: []string{"start from a checkpoint"},
		why: "Rows stay encoded, and the file is read while the node connects. What is left is to connect and to ask for the catalogue, to read the file into memory that is new to the process, and to apply what was missed; the table \"" + whereTimeGoes + whileStarting + "\" says how much of the node's own time each takes. " +
			"All of it runs on the same cores as the server.",
		floor: []string{"making 1,000,000 rows / cold start"},
		next:  "a file of fewer bytes; fewer questions about the catalogue.",
	},
	{
		of:    []string{"100 idle nodes"},
		why:   "A beat is a query, whatever it asks for: the server's process wakes up, receives and answers. What is above that is the sequence that it reads, the look at the catalogues every 3 s, and the register. An idle node looks every 500 ms.",
		floor: []string{"100 connections that ask SELECT 1 as often as nodes beat: of one core of Postgres"},
		next:  "a fleet of that size follows a relay (lockstep relay).",
	},
	{
		of: []string{"on the stream at 100 commits/s, queries at Postgres", "on the stream at 100 commits/s, processor time of Postgres"},
		why: "Nodes on the stream ask Postgres for nothing: the relay writes their rows, and says what the server's clock says. But on two cores the fleet itself takes commits away, by which the load is divided, and the server, " +
			"woken beside two hundred nodes, needs longer for each.",
		floor: []string{"fan-out model: a row in the register"},
		next:  "the fleet on another machine than the server.",
	},
}

// unreached says of each figure that misses its target why it does.
func unreached(all []figure) string {
	named := map[string]*figure{}
	for i := range all {
		named[all[i].Name] = &all[i]
	}
	var w strings.Builder
	said := map[string]bool{}
	for _, r := range reasons {
		missed := missedBy(all, r.of)
		if len(missed) == 0 {
			continue
		}
		for _, name := range missed {
			said[name] = true
		}
		fmt.Fprintf(&w, "\n- **%s.** %s", strings.Join(missed, "; "), r.why)
		var floors []string
		for _, name := range r.floor {
			measured := "not measured"
			if f := named[name]; f != nil {
				measured = f.String()
			}
			floors = append(floors, name+": "+measured)
		}
		if len(floors) > 0 {
			fmt.Fprintf(&w, " For comparison, %s.", strings.Join(floors, "; "))
		}
		fmt.Fprintf(&w, " Next: %s\n", r.next)
	}
	for _, name := range missedBy(all, []string{""}) {
		if !said[name] {
			fmt.Fprintf(&w, "\n- **%s.** Not looked into yet.\n", name)
		}
	}
	if w.Len() == 0 {
		return ""
	}
	return "\n### Not reached, and why\n" + w.String()
}

// missedBy are the figures that miss their target and whose names contain one of some texts.
func missedBy(all []figure, parts []string) (names []string) {
	for _, f := range all {
		if f.Reached != nil && !*f.Reached && slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(f.Name, p) }) {
			names = append(names, f.Name)
		}
	}
	return names
}
