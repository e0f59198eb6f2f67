package lockstep

import "time"

func init() { auditPause = time.Millisecond }
