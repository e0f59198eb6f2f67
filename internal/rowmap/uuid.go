package rowmap

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// uuidDest is a uuid.UUID that takes the 16 bytes of a uuid column. pgx would
// print them and let uuid.UUID.Scan parse the text: three allocations for what
// most keys are. In everything else it does what uuid.UUID does; like that, it
// ignores a NULL.
type uuidDest uuid.UUID

// ScanUUID implements pgtype.UUIDScanner.
func (u *uuidDest) ScanUUID(v pgtype.UUID) error {
	if v.Valid {
		*u = v.Bytes
	}
	return nil
}

// Scan implements sql.Scanner, for columns that are no uuid.
func (u *uuidDest) Scan(src any) error {
	if err := (*uuid.UUID)(u).Scan(src); err != nil {
		return fmt.Errorf("scan into %T: %w", (*uuid.UUID)(u), err)
	}
	return nil
}
