// Package rowjson turns the JSON documents of the outbox back into rows that
// pgx can scan.
//
// A document is what row_to_json gives for a whole row under the pinned
// settings (TimeZone UTC, DateStyle ISO, IntervalStyle postgres, bytea_output
// hex, extra_float_digits 1, lc_monetary C, search_path pg_catalog). A row that
// came as a document must scan into the same Go value as the same row read by
// a SELECT. The way it is made sure of is blunt: for every column a [Decoder]
// gives exactly the bytes, in exactly the format, that the SELECT gives, so
// that pgx runs the same code on the same input, whatever the destination is.
// Where pgx reads a column in binary and this package knows the binary form,
// the format is binary; else it is text. A SELECT asks for the same formats by
// passing [Decoder.Formats], and for the same values by selecting
// [Column.Select], under the same settings.
//
// What a document cannot carry is lost on both ways alike:
//   - Array lower bounds: every dimension starts at 1.
//   - A JSON null in a json or jsonb column reads as SQL NULL, since
//     row_to_json prints both as null; in a NOT NULL column it stays a JSON null.
//   - The payload and sign of a NaN.
//
// Inside a composite, Column.Select cannot normalise: an array with lower
// bounds of its own keeps them in a SELECT there, and loses them in an event.
//
// What cannot be kept the same at all is refused by name ([Type.Refused]), also
// where it is a part of another type:
//   - The reg* types and aclitem: they print names, and a rename writes no event.
//   - A type with a cast to json by a function, which row_to_json calls: hstore
//     and PostGIS' geometry among them.
//   - Arrays of json, of jsonb, of a domain over an array, of int2vector and of
//     oidvector: in JSON such an element looks like one more dimension.
//   - Composites with a json or jsonb field: a JSON null there looks like NULL.
//   - Pseudo-types and the server's internal types.
package rowjson
