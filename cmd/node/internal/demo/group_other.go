//go:build !unix

package demo

import "os/exec"

func newGroup(*exec.Cmd) {}

func struck(error) bool { return false }
