package stored

import (
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Register makes a connection bring columns in the formats of the tables, where those are of types that the
// application's connections knew and this one does not.
func Register(m *pgtype.Map, tables []*Table) {
	for _, t := range tables {
		for _, c := range t.shape.Columns {
			if _, known := m.TypeForOID(c.OID); !known && c.Format == pgx.BinaryFormatCode {
				m.RegisterType(&pgtype.Type{Name: c.Codec + " of " + c.Name, OID: c.OID, Codec: binary{}})
			}
		}
	}
}

// binary is the codec of a type of which nothing is known but its format. Nobody encodes or decodes by it.
type binary struct{}

var errOpaque = errors.New("the type is not known here")

func (binary) FormatSupported(format int16) bool { return format == pgx.BinaryFormatCode }
func (binary) PreferredFormat() int16            { return pgx.BinaryFormatCode }
func (binary) PlanEncode(*pgtype.Map, uint32, int16, any) pgtype.EncodePlan {
	return nil
}
func (binary) PlanScan(*pgtype.Map, uint32, int16, any) pgtype.ScanPlan { return nil }
func (binary) DecodeDatabaseSQLValue(*pgtype.Map, uint32, int16, []byte) (driver.Value, error) {
	return nil, errOpaque
}

func (binary) DecodeValue(*pgtype.Map, uint32, int16, []byte) (any, error) { return nil, errOpaque }
