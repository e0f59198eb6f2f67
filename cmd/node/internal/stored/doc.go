// Package stored works on the tables of a checkpoint without the Go types that their rows are read into: a row is
// its encoded columns. What it puts into a row is what Postgres sends for it, in the formats that the checkpoint
// names, so that the application's node reads from it what a load would have given.
//
// Where a table's rows are read by code of the application's own, only that knows which columns make one key of
// another: such a table is refused by name.
package stored
