package rowjson

import (
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

const (
	int2VectorOID  = 22
	oidVectorOID   = 30
	firstNormalOID = 16384 // below it are the types that come with Postgres
)

// scalarForm tells how the text that JSON holds for a scalar becomes the text
// and the binary form of a column. Nil means: text verbatim, binary unknown.
type scalarForm struct {
	text   func(dst, src []byte) []byte
	binary func(dst, src []byte) ([]byte, error)
}

var textForm = scalarForm{binary: appendVerbatim}

func appendVerbatim(dst, src []byte) ([]byte, error) { return append(dst, src...), nil }

// baseForms are the built-in types whose binary form is known. A type that is
// not here is carried as text, both ways.
var baseForms = map[uint32]scalarForm{
	pgtype.TextOID:        textForm,
	pgtype.VarcharOID:     textForm,
	pgtype.BPCharOID:      textForm,
	pgtype.NameOID:        textForm,
	pgtype.QCharOID:       {binary: appendQChar},
	pgtype.BoolOID:        {text: appendBoolText, binary: appendBool},
	pgtype.Int2OID:        {binary: appendInt2},
	pgtype.Int4OID:        {binary: appendInt4},
	pgtype.Int8OID:        {binary: appendInt8},
	pgtype.OIDOID:         {binary: appendUint4},
	pgtype.XIDOID:         {binary: appendUint4},
	pgtype.CIDOID:         {binary: appendUint4},
	pgtype.XID8OID:        {binary: appendUint8},
	pgtype.OID8OID:        {binary: appendUint8},
	pgtype.TIDOID:         {binary: appendTID},
	pgtype.Float4OID:      {binary: appendFloat4},
	pgtype.Float8OID:      {binary: appendFloat8},
	pgtype.NumericOID:     {binary: appendNumeric},
	pgtype.UUIDOID:        {binary: appendUUID},
	pgtype.ByteaOID:       {binary: appendBytea},
	pgtype.DateOID:        {binary: appendDate},
	pgtype.TimeOID:        {binary: appendTime},
	pgtype.TimestampOID:   {text: appendTimestampText, binary: appendTimestamp},
	pgtype.TimestamptzOID: {text: appendTimestamptzText, binary: appendTimestamptz},
	pgtype.IntervalOID:    {binary: appendInterval},
	pgtype.BitOID:         {binary: appendBits},
	pgtype.VarbitOID:      {binary: appendBits},
	pgtype.InetOID:        {binary: appendInet},
	pgtype.CIDROID:        {binary: appendCIDR},
	pgtype.MacaddrOID:     {binary: appendMacaddr},
	pgtype.Macaddr8OID:    {binary: appendMacaddr8},
	pgtype.PointOID:       {binary: appendPoint},
	pgtype.LsegOID:        {binary: appendLseg},
	pgtype.BoxOID:         {binary: appendBox},
	pgtype.LineOID:        {binary: appendLine},
	pgtype.CircleOID:      {binary: appendCircle},
	pgtype.PathOID:        {binary: appendPath},
	pgtype.PolygonOID:     {binary: appendPolygon},
}

// refusedBase are the built-in types of which a column cannot be kept right,
// next to the reg* types.
var refusedBase = map[string]string{
	"aclitem":                      "it prints roles by name, and renaming a role writes no event",
	"gtsvector":                    "it is internal to indexes and has no input",
	"pg_brin_bloom_summary":        "it is internal and has no input",
	"pg_brin_minmax_multi_summary": "it is internal and has no input",
	"pg_dependencies":              "it is internal and has no input",
	"pg_mcv_list":                  "it is internal and has no input",
	"pg_ndistinct":                 "it is internal and has no input",
	"pg_node_tree":                 "it is internal and has no input",
}

func fillBase(t *Type, c catalogueType) {
	if t.oid >= firstNormalOID {
		return
	}
	switch t.oid {
	case pgtype.JSONOID:
		t.kind = kindJSON
		return
	case pgtype.JSONBOID:
		t.kind = kindJSONB
		return
	}
	if strings.HasPrefix(c.name, "reg") && c.schema == "pg_catalog" {
		t.refusef("it prints an object by name, and renaming the object writes no event")
	}
	if why, ok := refusedBase[c.name]; ok {
		t.refusef("%s", why)
	}
	t.scalar = baseForms[t.oid]
}
