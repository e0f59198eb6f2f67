package rowjson

import (
	"encoding/binary"
	"math"
)

// The geometric types are numbers between brackets and commas; their binary
// forms are the numbers in the same order.

func appendPoint(dst, src []byte) ([]byte, error)  { return appendExactly(dst, src, "point", 2) }
func appendLseg(dst, src []byte) ([]byte, error)   { return appendExactly(dst, src, "lseg", 4) }
func appendBox(dst, src []byte) ([]byte, error)    { return appendExactly(dst, src, "box", 4) }
func appendLine(dst, src []byte) ([]byte, error)   { return appendExactly(dst, src, "line", 3) }
func appendCircle(dst, src []byte) ([]byte, error) { return appendExactly(dst, src, "circle", 3) }

func appendExactly(dst, src []byte, typ string, want int) ([]byte, error) {
	dst, n, err := appendNumbers(dst, src)
	if err == nil && n != want {
		err = badText(typ, src)
	}
	return dst, err
}

// appendPath writes whether the path is closed, the number of points, and them.
func appendPath(dst, src []byte) ([]byte, error) {
	if len(src) == 0 || src[0] != '(' && src[0] != '[' {
		return nil, badText("path", src)
	}
	closed := byte(0)
	if src[0] == '(' {
		closed = 1
	}
	return appendPolygon(append(dst, closed), src)
}

func appendPolygon(dst, src []byte) ([]byte, error) {
	mark := len(dst)
	dst, n, err := appendNumbers(append(dst, 0, 0, 0, 0), src)
	if err == nil && n%2 != 0 {
		err = badText("list of points", src)
	}
	if err != nil {
		return nil, err
	}
	putUint32(dst, mark, n/2)
	return dst, nil
}

func appendNumbers(dst, src []byte) (out []byte, n int, err error) {
	for i := 0; i < len(src); {
		if isBracket(src[i]) {
			i++
			continue
		}
		start := i
		for i < len(src) && !isBracket(src[i]) {
			i++
		}
		f, err := parseFloat(src[start:i], 64)
		if err != nil {
			return nil, 0, err
		}
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(f))
		n++
	}
	return dst, n, nil
}

func isBracket(b byte) bool {
	switch b {
	case '(', ')', '[', ']', '{', '}', '<', '>', ',':
		return true
	}
	return false
}
