package pause

import "time"

// Pace bounds how often something is done, as a bucket of tokens: rate flow in each
// second, and a quarter of a second's worth fits in. The zero Pace is a full one. It is for one goroutine.
type Pace struct {
	tokens float64
	filled time.Time
}

// Take takes a token and returns how long to wait before it may be used; 0: at once. Who does not wait so long owes that
// one token, which the next Take waits for, and never more than one.
func (p *Pace) Take(now time.Time, rate float64) time.Duration {
	p.tokens = min(p.tokens+now.Sub(p.filled).Seconds()*rate, rate/4)
	p.filled = now
	p.tokens = max(p.tokens-1, -1)
	return time.Duration(max(0, -p.tokens) / rate * float64(time.Second))
}
