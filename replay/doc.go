// Package replay moves a cache along the log: cold load, follow, catch up, checkpoint, resync.
//
// There is one code path. Following live is replay of a short cut, catching up
// after an outage is replay of a long one, and a load is a cut that brings
// rows instead of events. One goroutine owns the position and everything that
// moves with it; the rest of the package is how others ask it for something.
//
// The invariants, each kept where its number stands above the code:
//
//  1. A cut is applied in order of sequence number and published in one step,
//     together with the position that it leads to. A cut without events
//     publishes nothing.
//  2. An event is applied once: one whose transaction the position covers is
//     skipped, and one whose transaction the cut's own snapshot does not cover
//     (a replicated outbox) is refused.
//  3. Within one history the position only moves forward. Another history, a
//     snapshot that does not include the position, or a horizon above it ends
//     in a resync that says so, never in a hole.
//  4. On a new session nothing is applied before the anchor was found whole.
//     A cut's transactions leave the anchor only once an event has been
//     applied whose number lies above the cut's handed-out number.
//  5. A gap is closed by evidence: its event, or a snapshot whose xmin has
//     passed a transaction id drawn after the gap was seen. Never by time.
//  6. What an event cannot carry is read in the snapshot of the cut that held
//     the event: the rows by key, or the table.
//  7. A table whose catalogue entries differ from those of its last load is
//     loaded again.
//  8. A load is a difference to whoever reads: the old state is served until
//     the new one is published whole.
//  9. When a call of the source fails the session ends, the engine says that
//     it is stale and why, and it comes back by replay, with jittered backoff.
//  10. A load or a cut that would exceed Config.MaxBytes is refused by name
//     and leaves the cache as it was.
//  11. Close leaves no goroutine, and nobody waiting.
//  12. A checkpoint is one published state with the accounts that go with its
//     position. It is believed only as far as the server vouches for it, and
//     becomes visible in one step with what was missed since, once its file was
//     read to the end; else everything is loaded, and the reason said.
package replay
