// Package checkpoint keeps one file that holds the rows of some tables, and a
// head that says what they are.
//
// The file is a magic line and frames. A frame is
//
//	kind (1 byte) | length of the payload (4) | CRC-32C of these and of the digest before (4) | payload | digest (8)
//
// with numbers in little endian. Rows are the number of their table (4), and each row behind its length (uvarint). The digest covers kind, length and payload and the digest before it, so
// that a frame which was changed, moved, repeated or left out is found when it is read, before anything in
// it is believed; the sum over kind and length comes first, so that memory is never taken for a length that is not
// there. The first frame is the head, then come rows, and the last one is empty: a file that was cut short
// at the end of a frame lacks it.
//
// A file is written beside the old one and takes its place when it is complete
// and on disk, so there is always a whole one or none.
package checkpoint
