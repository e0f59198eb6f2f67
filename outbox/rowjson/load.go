package rowjson

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed types.sql
var typesSQL string

// Querier is the part of a connection, a pool or a transaction that LoadTypes needs.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

type catalogueType struct {
	oid                                  uint32
	schema, name, typtype, delim         string
	elem, base, rangeSub, multirangeOver uint32
	jsonCast                             string
	fieldNames                           []string
	fieldOIDs                            []uint32
}

// LoadTypes reads from the catalogue, by one query, what the types are and
// what they are made of. The map has the types asked for and all their parts,
// by OID. An OID that the catalogue does not have is an error; a type that is
// refused is none: see Type.Refused.
func LoadTypes(ctx context.Context, q Querier, oids []uint32) (map[uint32]*Type, error) {
	want := slices.Clone(oids)
	if want == nil {
		want = []uint32{}
	}
	rows, err := q.Query(ctx, typesSQL, want)
	if err != nil {
		return nil, fmt.Errorf("rowjson: read types: %w", err)
	}
	found := make(map[uint32]catalogueType)
	var c catalogueType
	dest := []any{
		&c.oid, &c.schema, &c.name, &c.typtype, &c.delim, &c.elem, &c.base,
		&c.rangeSub, &c.multirangeOver, &c.jsonCast, &c.fieldNames, &c.fieldOIDs,
	}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		found[c.oid] = c
		c.fieldNames, c.fieldOIDs = nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("rowjson: read types: %w", err)
	}
	b := typeBuilder{from: found, types: make(map[uint32]*Type, len(found))}
	for _, oid := range want {
		if _, err := b.build(oid, 0); err != nil {
			return nil, err
		}
	}
	return b.types, nil
}

type typeBuilder struct {
	from  map[uint32]catalogueType
	types map[uint32]*Type
}

// maxTypeDepth is far above what anyone nests; Postgres lets no type contain
// itself, and a catalogue that says otherwise must not end in a stack overflow.
const maxTypeDepth = 200

func (b *typeBuilder) build(oid uint32, depth int) (*Type, error) {
	if t, ok := b.types[oid]; ok {
		return t, nil
	}
	c, ok := b.from[oid]
	if !ok {
		return nil, fmt.Errorf("rowjson: no type has the OID %d", oid)
	}
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("rowjson: type %s.%s is nested too deep", c.schema, c.name)
	}
	t := &Type{oid: oid, rowOID: oid, name: typeName(c), delim: ','}
	if len(c.delim) == 1 {
		t.delim = c.delim[0]
	}
	if err := b.fill(t, c, depth+1); err != nil {
		return nil, err
	}
	t.resolve()
	b.types[oid] = t
	return t, nil
}

func (b *typeBuilder) fill(t *Type, c catalogueType, depth int) (err error) {
	if c.jsonCast != "" && c.elem == 0 && c.typtype != "c" {
		t.refusef("row_to_json calls its cast to json, %s, which may print anything", c.jsonCast)
	}
	switch {
	case c.typtype == "d":
		base, err := b.build(c.base, depth)
		if err != nil {
			return err
		}
		own := *t
		*t = *base // the name and the OID are the domain's own, the form is its base's
		t.oid, t.name, t.delim, t.refused = own.oid, own.name, own.delim, nil
		if base.refused != nil {
			t.refusef("%v", base.refused)
		}
		return nil
	case c.typtype == "p":
		t.refusef("it is a pseudo-type")
	case t.oid == int2VectorOID || t.oid == oidVectorOID:
		t.kind = kindVector
		t.elem, err = b.build(c.elem, depth)
	case c.elem != 0:
		t.kind = kindArray
		t.elem, err = b.build(c.elem, depth)
	case c.typtype == "c":
		t.kind = kindComposite
		err = b.fillFields(t, c, depth)
	case c.typtype == "r":
		t.kind = kindRange
		t.elem, err = b.build(c.rangeSub, depth)
	case c.typtype == "m":
		t.kind = kindMultirange
		t.elem, err = b.build(c.multirangeOver, depth)
	case c.typtype == "e":
		t.scalar = textForm
	default:
		fillBase(t, c)
	}
	return err
}

func (b *typeBuilder) fillFields(t *Type, c catalogueType, depth int) error {
	for i, name := range c.fieldNames {
		ft, err := b.build(c.fieldOIDs[i], depth)
		if err != nil {
			return err
		}
		t.fields = append(t.fields, field{name: name, typ: ft})
	}
	return nil
}

func typeName(c catalogueType) string {
	if c.schema == "pg_catalog" {
		return pgx.Identifier{c.name}.Sanitize()
	}
	return pgx.Identifier{c.schema, c.name}.Sanitize()
}
