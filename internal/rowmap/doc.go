// Package rowmap maps Go structs to columns and back, by pgx's own rules.
//
// The rules are those of pgx.RowToStructByName. An exported field is a column.
// A tag `db:"name"` names it (a comma ends the name), `db:"-"` leaves the field
// out. Embedded structs are flattened, whatever tag they carry. A tagged name
// matches a column of exactly that name, else one that differs in case only; the
// name of a field without a tag matches regardless of case and underscores.
//
// Where pgx would let one of two fields win in silence, Of and Resolve report a mistake.
package rowmap
