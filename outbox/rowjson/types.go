package rowjson

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Type is a Postgres type as far as JSON documents go, with every type that it
// is made of. It is immutable and may be shared.
type Type struct {
	oid     uint32
	rowOID  uint32 // what a row description says: that of the base type for a domain
	name    string // schema-qualified outside pg_catalog
	kind    kind
	delim   byte  // between the elements of an array of this type
	elem    *Type // of an array or a range; the range of a multirange
	fields  []field
	scalar  scalarForm
	refused error
}

type field struct {
	name string
	typ  *Type
}

type kind uint8

const (
	kindScalar kind = iota
	kindJSON        // the column's text is the JSON value as it stands, white space included
	kindJSONB       // the same without the white space
	kindVector      // int2vector, oidvector: a JSON array whose text form is "1 2 3"
	kindArray
	kindComposite
	kindRange
	kindMultirange
)

// OID returns the type's own OID.
func (t *Type) OID() uint32 { return t.oid }

// RowOID returns the OID by which a row description names a column of this
// type: the base type's for a domain, else the type's own.
func (t *Type) RowOID() uint32 { return t.rowOID }

// String returns the type's name, with its schema outside pg_catalog.
func (t *Type) String() string { return t.name }

// Refused says why a column of this type cannot be kept the same whichever way
// its rows come; nil if it can. The error names the type and the reason.
func (t *Type) Refused() error { return t.refused }

// Binary reports whether AppendBinary knows the type's binary form.
func (t *Type) Binary() bool {
	switch t.kind {
	case kindScalar:
		return t.scalar.binary != nil
	case kindArray, kindMultirange:
		return t.elem.Binary()
	case kindRange:
		return t.elem.kind == kindScalar && t.elem.Binary()
	case kindComposite:
		for _, f := range t.fields {
			if !f.typ.Binary() {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// ErrRefused is what every error of Type.Refused wraps.
var ErrRefused = errors.New("cannot be kept the same by load and by event")

func (t *Type) refusef(format string, args ...any) {
	if t.refused == nil {
		t.refused = fmt.Errorf("type %s %w: %s", t.name, ErrRefused, fmt.Sprintf(format, args...))
	}
}

// resolve fills in what follows from the parts; they are resolved already.
func (t *Type) resolve() {
	switch t.kind {
	case kindArray:
		t.resolveArray()
	case kindComposite:
		for _, f := range t.fields {
			switch {
			case f.typ.refused != nil:
				t.refusef("its field %q: %v", f.name, f.typ.refused)
			case f.typ.kind == kindJSON || f.typ.kind == kindJSONB:
				t.refusef("its field %q is %s, and in a document a JSON null there looks like NULL", f.name, f.typ.name)
			}
		}
	case kindRange, kindMultirange:
		if t.elem.refused != nil {
			t.refusef("%v", t.elem.refused)
		}
	}
}

func (t *Type) resolveArray() {
	switch t.elem.kind {
	case kindJSON, kindJSONB, kindArray, kindVector:
		t.refusef("in a document an element of type %s looks like another dimension of the array", t.elem.name)
	default:
		if t.elem.refused != nil {
			t.refusef("%v", t.elem.refused)
		}
	}
}

// A Column is one column that a Decoder is to find in documents.
type Column struct {
	Name string
	Type *Type
	// NotNull says that the column is declared NOT NULL, which tells a JSON
	// null in a json or jsonb column from an SQL NULL. Default: false.
	NotNull bool
}

// Select returns what a SELECT lists to get the value that an event's document
// can carry, under the column's own name: mostly just the column. alias is the
// table's name or alias in the query, as SQL wants it.
func (c Column) Select(alias string) string {
	name := pgx.Identifier{c.Name}.Sanitize()
	col := alias + "." + name
	switch c.Type.kind {
	case kindArray:
		return "(" + col + ")[:] AS " + name // lower bounds become 1
	case kindJSON, kindJSONB:
		if c.NotNull {
			return col
		}
		typeOf := "pg_catalog.json_typeof("
		if c.Type.kind == kindJSONB {
			typeOf = "pg_catalog.jsonb_typeof("
		}
		return "CASE WHEN " + typeOf + col + ") OPERATOR(pg_catalog.<>) 'null' THEN " + col + " END AS " + name
	default:
		return col
	}
}
