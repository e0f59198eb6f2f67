//go:build unix

// Command robustnode is a node of a robustness run whose program is built by itself, so that its clock can be shifted.
package main

import (
	"fmt"
	"os"

	"github.com/pglockstep/lockstep/integration/robust"
)

func main() {
	status, is := robust.IsNode()
	if !is {
		fmt.Fprintf(os.Stderr, "robustnode: a robustness run starts it and sets %s\n", robust.NodeEnv)
		status = 2
	}
	os.Exit(status)
}
