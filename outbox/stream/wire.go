package stream

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// A message is a part of a batch:
//
//	magic, run, number of the batch, part, parts, piece of the batch, MAC of all before
//
// The numbers are fixed and big-endian. The MAC's key is the run's.
const (
	magic    = "LSK1"
	headLen  = len(magic) + 8 + 8 + 4 + 4
	macLen   = sha256.Size
	overhead = headLen + macLen
	maxParts = 1 << 16
)

var (
	errShape  = errors.New("stream: the message has another shape")
	errForged = errors.New("stream: the message's MAC is wrong")
)

// part is a message, opened. Its piece is a part of the message's own bytes.
type part struct {
	run    int64
	number uint64
	at, of uint32
	piece  []byte
	signed []byte // what the MAC is of
	mac    []byte
}

// split cuts a batch into messages of at most size bytes each.
func split(key []byte, run int64, number uint64, batch []byte, size int) ([][]byte, error) {
	room := size - overhead
	if room <= 0 {
		return nil, fmt.Errorf("stream: messages of %d bytes are too small for a part", size)
	}
	of := max(1, (len(batch)+room-1)/room)
	if of > maxParts {
		return nil, fmt.Errorf("stream: a batch of %d bytes is more than %d messages of %d", len(batch), maxParts, size)
	}
	messages := make([][]byte, of)
	for i := range messages {
		piece := batch[i*room : min((i+1)*room, len(batch))]
		b := make([]byte, 0, len(piece)+overhead)
		b = append(b, magic...)
		b = binary.BigEndian.AppendUint64(b, uint64(run))
		b = binary.BigEndian.AppendUint64(b, number)
		b = binary.BigEndian.AppendUint32(b, uint32(i))
		b = binary.BigEndian.AppendUint32(b, uint32(of))
		b = append(b, piece...)
		messages[i] = append(b, sum(key, b)...)
	}
	return messages, nil
}

func sum(key, signed []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(signed) // a hash takes everything
	return h.Sum(nil)
}

// open reads a message's frame, which nobody vouches for yet.
func open(message []byte) (part, error) {
	if len(message) < overhead || !bytes.HasPrefix(message, []byte(magic)) {
		return part{}, errShape
	}
	p := part{
		run:    int64(binary.BigEndian.Uint64(message[4:])),
		number: binary.BigEndian.Uint64(message[12:]),
		at:     binary.BigEndian.Uint32(message[20:]),
		of:     binary.BigEndian.Uint32(message[24:]),
		signed: message[:len(message)-macLen],
		mac:    message[len(message)-macLen:],
	}
	p.piece = p.signed[headLen:]
	if p.of == 0 || p.of > maxParts || p.at >= p.of {
		return part{}, errShape
	}
	return p, nil
}

// verify says whether the message is of who has the key.
func (p *part) verify(key []byte) error { return verify(key, p.signed, p.mac) }

// verify says whether the MAC of what is signed was made with the key.
func verify(key, signed, mac []byte) error {
	if !hmac.Equal(mac, sum(key, signed)) {
		return errForged
	}
	return nil
}

// joiner puts the parts of a run's batches together again. It holds one batch at
// a time, the newest of which a part has come: of an older one the rest is not worth
// waiting for, since what is missing shows as a gap.
type joiner struct {
	max    int // bytes that a batch may have
	number uint64
	parts  [][]byte
	left   int
	size   int
}

// wants reports whether a part is one of several and would bring its batch on.
func (j *joiner) wants(p part) bool {
	switch {
	case p.of == 1 || p.number < j.number:
		return false
	case p.number > j.number:
		return true
	}
	return int(p.at) < len(j.parts) && j.parts[p.at] == nil
}

// add takes a verified part. It returns the batch that it completes, else nil;
// lost says that a batch was given up for it.
func (j *joiner) add(p part) (batch []byte, lost bool) {
	if p.of == 1 {
		lost = j.left > 0 && p.number > j.number
		if lost {
			j.drop()
		}
		return p.piece, lost
	}
	if j.parts == nil || p.number > j.number {
		lost = j.left > 0
		j.number, j.parts, j.left, j.size = p.number, make([][]byte, p.of), int(p.of), 0
	}
	if p.number != j.number || int(p.of) != len(j.parts) || j.parts[p.at] != nil || j.left == 0 {
		return nil, lost // an older one, or a part that is here already
	}
	j.size += len(p.piece)
	if j.size > j.max {
		j.drop()
		return nil, true
	}
	j.parts[p.at] = p.piece
	if j.left--; j.left > 0 {
		return nil, lost
	}
	batch = bytes.Join(j.parts, nil)
	j.drop()
	return batch, lost
}

// drop gives up what is being joined; parts of it that come later are passed by.
func (j *joiner) drop() { j.parts, j.left, j.size = make([][]byte, 0), 0, 0 }
