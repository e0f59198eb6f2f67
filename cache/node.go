package cache

import "sync/atomic"

// How a row's versions are kept. Only the writer changes chains; readers walk them without a lock.
//
//  1. Every version of number n is linked before n is published, so whoever reads the published number
//     first and the chain second finds all versions up to that number.
//  2. A chain is strictly newest first, and at most its head is unpublished.
//  3. A version lives from its own number up to that of the next newer one. It is unlinked only when no
//     pinned number lies in its life; the published number counts as pinned.
//  4. A pinned number is the published one or was it when the pin was taken: old numbers are only ever
//     given up. So what is not needed once is never needed again.
//  5. An unlinked version's next is the table's dead mark: nothing that still holds it (a reader on its
//     way, the change log, the writer's list) keeps older versions alive, and a reader that meets the mark starts again.
//  6. A key leaves the map only when a published tombstone is all that is left of it. A key that is
//     visible to a pinned number therefore never moves within the map, and a walk over the map meets it
//     exactly once.

// tombstone is the bit of a version number that says: from here on there is no row.
const tombstone = 1 << 63

// node is one version of a row. It holds what readers need and no more: whatever else the writer wants to know of a
// version it keeps elsewhere or finds out again, so that a row lies on as few cache lines as can be.
type node[K comparable, T any] struct {
	next atomic.Pointer[node[K, T]]
	ver  uint64 // the version's number, and the tombstone bit
	key  K
	row  T
}

// version is the number without the tombstone bit.
func (n *node[K, T]) version() uint64 { return n.ver &^ tombstone }

// live says whether the version is a row and not its absence; a nil node is no row.
func (n *node[K, T]) live() bool { return n != nil && n.ver&tombstone == 0 }

// shows says whether the version is a row at num. A tombstone's ver is above any number.
func (n *node[K, T]) shows(num uint64) bool { return n != nil && n.ver <= num }

// walk finds the first version at or below num, nil if there is none. The dead mark has number 0, so a
// walk that leaves the chain ends there; the caller must compare.
func (n *node[K, T]) walk(num uint64) *node[K, T] {
	for n != nil && n.version() > num {
		n = n.next.Load()
	}
	return n
}
