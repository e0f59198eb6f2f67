package window

import "time"

// kept is how many samples of each node are kept, one a second unless
// Config.Every says otherwise: three minutes. They take 10 KiB a node.
const kept = 180

// point is what a chart shows of one sample. A node that could not be asked has none.
type point struct {
	at       time.Time
	known    bool
	stale    float64 // seconds
	rate     float64 // events a second
	gaps     bool    // some were closed since the last sample, or are open
	replayed bool
	loaded   bool
}

// history is the newest points of one node, in a ring.
type history struct {
	ring [kept]point
	next int // where the next one goes
	last Sample
	had  bool
}

// add takes a sample in.
func (h *history) add(at time.Time, s *Sample) {
	p := point{at: at, known: true, stale: s.Staleness}
	if before := h.newest(); h.had && s.Events >= h.last.Events { // else another process has the name
		if took := at.Sub(before.at).Seconds(); took > 0 {
			p.rate = float64(s.Events-h.last.Events) / took
		}
		p.gaps = s.Gaps > h.last.Gaps || s.OpenGaps > 0
		p.replayed, p.loaded = s.Replays > h.last.Replays, s.Loads > h.last.Loads
	}
	h.last, h.had = *s, true
	h.push(p)
}

func (h *history) push(p point) {
	h.ring[h.next] = p
	h.next = (h.next + 1) % kept
}

func (h *history) newest() point { return h.ring[(h.next+kept-1)%kept] }

// points are the newest, oldest first: one, two or three thirds of the ring,
// as there are, so that what began a moment ago is no speck at the edge.
func (h *history) points() []point {
	all := append(append(make([]point, 0, kept), h.ring[h.next:]...), h.ring[:h.next]...)
	empty := 0
	for empty < kept && all[empty].at.IsZero() {
		empty++
	}
	const third = kept / 3
	return all[min(empty/third, 2)*third:]
}

// marks counts what the charts show as marks.
func marks(points []point) (gaps, replays, loads int) {
	for _, p := range points {
		if p.gaps {
			gaps++
		}
		if p.replayed {
			replays++
		}
		if p.loaded {
			loads++
		}
	}
	return gaps, replays, loads
}
