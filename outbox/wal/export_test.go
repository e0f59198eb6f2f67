package wal

import "time"

// BellWithin is a Bell that gives a server up which does not answer within d.
func BellWithin(d time.Duration) Bell { return Bell{within: d} }
