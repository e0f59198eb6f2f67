// Package pgserver finds the programs of a Postgres server on this machine, or
// fetches them, and runs private clusters from them.
//
// A cluster belongs to the process that started it and does not outlive it. Three
// things see to that, each for when the one before could not:
//   - Stop ends the server and removes its directory;
//   - a guard, a small shell that reads a pipe from the owner, does both as soon as
//     the pipe closes, which it does however the owner ends, by kill -9 too;
//   - Sweep, run by every Start, looks for directories whose lock no living process
//     holds, which is what remains when the guard was killed as well.
//
// The library itself must not import this package: it is for tests and the command.
package pgserver
