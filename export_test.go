package lockstep

import "time"

func init() { auditPause = time.Millisecond }

// BeatEvery is how often the register is written.
var BeatEvery = beatEvery
