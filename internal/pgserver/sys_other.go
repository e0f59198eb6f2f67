//go:build !unix

package pgserver

import (
	"errors"
	"os"
	"syscall"
)

// Private servers run on Unix only; elsewhere Find works and Start says so.
var errUnixOnly = errors.New("private Postgres servers run on Unix only")

const (
	sigSmart     = syscall.SIGTERM
	sigFast      = syscall.SIGINT
	sigImmediate = syscall.SIGQUIT
	sigKill      = syscall.SIGKILL
	sigFreeze    = syscall.SIGKILL
)

func detached(account) *syscall.SysProcAttr  { return nil }
func ownerOf(os.FileInfo) int                { return -1 }
func claim(string, []byte) (*os.File, error) { return nil, errUnixOnly }
func takeOver(string) (*os.File, error)      { return nil, errUnixOnly }
func openForeign(string) (*os.File, error)   { return nil, errUnixOnly }
func killPID(int, syscall.Signal) error      { return errUnixOnly }
func commandLine(int) []string               { return nil }
func processOwner(int) int                   { return -1 }
func childrenOf(int) []int                   { return nil }
func holdsOpen(os.FileInfo) bool             { return false }
