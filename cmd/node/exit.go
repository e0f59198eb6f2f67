package main

// exitError ends the command with a status of its own.
type exitError struct {
	status int
	error
}
