package stream

// Hook is called at each stage of the relay's work, "fetched" and "published", and may hold it up.
// It is set before Run.
func (r *Relay) Hook(f func(stage string)) { r.hook = f }

// Subject is that of a stream's messages.
func Subject(name string) string { return subject(name) }
