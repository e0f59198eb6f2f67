// Package triggers is everything that lives inside Postgres: the schema with
// the outbox, the functions that capture changes and ring the bell, the
// publication through which nodes read the log instead, the triggers on the
// application's tables, and what it takes to put them there, take them away and
// see whether they are still right.
//
// All of it is SQL in the folder sql; this package only decides what to run, and runs it safely on a busy database. What it would
// run is what Options.Print gets, which psql can run; of the files themselves only grants_*.sql are meant for psql.
package triggers
