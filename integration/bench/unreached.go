package main

import (
	"fmt"
	"strings"
)

// reason says of figures that do not reach what they are to reach where their time goes, which others show what nobody
// could go below on the same machine, and what might be tried next.
type reason struct {
	of    []string // what their names contain, one of each
	why   string
	floor []string // figures' names
	next  string
}

const leastTrigger = "the least trigger that writes a log / no trigger"

var reasons = []reason{
	{
		of: []string{"16 writers, fsync on: triggers", "64 writers, fsync on: triggers"},
		why: "A writer pays for one row of JSON in a second table and its index, for the plpgsql function around it, and for the bell. Writers, server and node share two cores here, " +
			"so that whatever capture takes of them is missing to the writers in full. integration/bench/instructions counts what a statement executes with capture and without, undisturbed by the rest.",
		floor: []string{"16 writers, fsync on: " + leastTrigger, "64 writers, fsync on: " + leastTrigger, "16 writers, fsync on: triggers and one live node / outbox insert alone"},
		next:  "The WAL bell takes the announcement out of the commit. What remains is the insert: capture in C would spare the interpreter, and no managed server would load it.",
	},
	{
		of:    []string{"1 writer, synchronous_commit off, latency"},
		why:   "The same, where nothing waits for a disk: a commit without a trigger is so short that two plpgsql calls and an insert are as long as it is.",
		floor: []string{"1 writer, synchronous_commit off: " + leastTrigger},
		next:  "As above. An application that needs it has one statement write many rows.",
	},
	{
		of:    []string{"100,000-row UPDATE in one statement: triggers / no trigger"},
		why:   "For each row that is written the server makes its JSON, and puts a second row into a second table and its index.",
		floor: []string{"100,000-row UPDATE in one statement: " + leastTrigger, "100,000-row UPDATE in one statement: triggers / outbox insert alone"},
		next:  "A narrower outbox: the name of the table is stored with every event.",
	},
	{
		of:    []string{"commit to visible: median, lockstep less bare NOTIFY"},
		why:   "A notification is a hint, so a node asks Postgres for what was committed: a second way there and back, in which a process of the server and a thread of the node have to wake up.",
		floor: []string{askedLess},
		next:  "To fetch on the connection that listens, whose process is awake at that moment; it would have to find out by itself that it is dead.",
	},
	{
		of: []string{"idle: Get / xsync.Map", "idle: go-memdb / Get"},
		why: "A look-up in a large map is the time of two places in memory that no other look-up has touched lately: the bucket, and the version behind it. xsync.Map has the same two; " +
			"a Get reads besides which number is published, and the version's own.",
		floor: []string{"reads, 1,000,000 rows, uniform keys, 1 core, idle: go-memdb / xsync.Map"},
		next:  "Nothing: a third of a Get would have to be left out, and there is one only where rows lie in the buckets themselves, where readers without locks cannot have them.",
	},
	{
		of:   []string{"replay on one core"},
		why:  "Decoding a document is about half of it; the rest is the map, the version's memory and the collector, and receiving.",
		next: "Events in binary columns: a document is text, of which every number is parsed. It would tie the log to the table's columns as they were.",
	},
	{
		of: []string{"start from a checkpoint"},
		why: "What a start from a checkpoint saves is Postgres' part. The node's own stays: a row is decoded, gets memory of its own and a place in the map, and the collector goes over all of it. " +
			"A cold start lets Postgres and the node do this at the same time, and ends at little more than what COPY takes.",
		floor: []string{"making 1,000,000 rows / cold start"},
		next:  "Rows that are used as they lie in the file, without being decoded: only for types without pointers.",
	},
	{
		of:    []string{"100 idle nodes"},
		why:   "A beat is a query, whatever it asks for: the server's process wakes up, receives and answers. Of what is above that, half is the look at the catalogues every 3 s.",
		floor: []string{"100 connections that ask SELECT 1 as often as nodes beat: of one core of Postgres"},
		next:  "Fewer beats while a node hears others' notifications, which prove that its ear is not deaf; a fleet of that size follows a relay (lockstep relay).",
	},
}

// unreached says of each figure that misses its target why it does.
func unreached(all []figure) string {
	named := map[string]*figure{}
	for i := range all {
		named[all[i].Name] = &all[i]
	}
	var w strings.Builder
	for _, r := range reasons {
		var missed []string
		for _, f := range all {
			if f.Reached == nil || *f.Reached {
				continue
			}
			for _, part := range r.of {
				if strings.Contains(f.Name, part) {
					missed = append(missed, f.Name)
					break
				}
			}
		}
		if len(missed) == 0 {
			continue
		}
		fmt.Fprintf(&w, "\n- **%s.** %s", strings.Join(missed, "; "), r.why)
		var floors []string
		for _, name := range r.floor {
			if f := named[name]; f != nil {
				floors = append(floors, fmt.Sprintf("%s: %s", name, f))
			}
		}
		if len(floors) > 0 {
			fmt.Fprintf(&w, " For comparison, %s.", strings.Join(floors, "; "))
		}
		fmt.Fprintf(&w, " Next: %s\n", strings.ToLower(r.next[:1])+r.next[1:])
	}
	if w.Len() == 0 {
		return ""
	}
	return "\n### Not reached, and why\n" + w.String()
}
