// Package appsql checks that an application's own SQL behaves as before when its tables are
// captured: the same scripts run against plain and against captured tables, and everything
// that a client can see is compared byte for byte. What does differ is a published exception,
// and has a test of its own that shows the difference and that its remedy works, where docs/guarantees.md names no other.
package appsql
