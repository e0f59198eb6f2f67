package rowjson

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"
)

// Each function here takes the text that the type's output function prints and
// appends what its send function writes.

func badText(typ string, text []byte) error {
	return fmt.Errorf("no %s: %q", typ, excerpt(text))
}

func appendBoolText(dst, src []byte) []byte {
	switch string(src) {
	case "true":
		return append(dst, 't')
	case "false":
		return append(dst, 'f')
	}
	return append(dst, src...)
}

func appendBool(dst, src []byte) ([]byte, error) {
	switch string(src) {
	case "true", "t":
		return append(dst, 1), nil
	case "false", "f":
		return append(dst, 0), nil
	}
	return nil, badText("bool", src)
}

// parseDigits reads a number of digits only.
func parseDigits(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	for i, ch := range b {
		d := uint64(ch - '0')
		if d > 9 {
			return 0, false
		}
		if i == 19 && (v > math.MaxUint64/10 || v*10 > math.MaxUint64-d) {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}

// parseInt reads an integer that fits the given number of bits.
func parseInt(b []byte, bits uint) (int64, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	v, ok := parseDigits(b)
	limit := uint64(1) << (bits - 1)
	switch {
	case !ok, v > limit, v == limit && !negative:
		return 0, false
	case negative:
		return -int64(v), true
	}
	return int64(v), true
}

func appendInt2(dst, src []byte) ([]byte, error) {
	v, ok := parseInt(src, 16)
	if !ok {
		return nil, badText("int2", src)
	}
	return binary.BigEndian.AppendUint16(dst, uint16(v)), nil
}

func appendInt4(dst, src []byte) ([]byte, error) {
	v, ok := parseInt(src, 32)
	if !ok {
		return nil, badText("int4", src)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(v)), nil
}

func appendInt8(dst, src []byte) ([]byte, error) {
	v, ok := parseInt(src, 64)
	if !ok {
		return nil, badText("int8", src)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
}

func appendUint4(dst, src []byte) ([]byte, error) {
	v, ok := parseDigits(src)
	if !ok || v > math.MaxUint32 {
		return nil, badText("unsigned 32-bit integer", src)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(v)), nil
}

func appendUint8(dst, src []byte) ([]byte, error) {
	v, ok := parseDigits(src)
	if !ok {
		return nil, badText("unsigned 64-bit integer", src)
	}
	return binary.BigEndian.AppendUint64(dst, v), nil
}

// appendTID reads "(block,offset)".
func appendTID(dst, src []byte) ([]byte, error) {
	if len(src) < 5 || src[0] != '(' || src[len(src)-1] != ')' {
		return nil, badText("tid", src)
	}
	block, offset, _ := bytes.Cut(src[1:len(src)-1], []byte(","))
	b, ok1 := parseDigits(block)
	o, ok2 := parseDigits(offset)
	if !ok1 || !ok2 || b > math.MaxUint32 || o > math.MaxUint16 {
		return nil, badText("tid", src)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(b))
	return binary.BigEndian.AppendUint16(dst, uint16(o)), nil
}

// postgresNaN is the NaN that Postgres' input gives; Go's has another payload.
const postgresNaN = 0x7ff8000000000000

func parseFloat(src []byte, bits int) (float64, error) {
	switch string(src) {
	case "NaN":
		return math.Float64frombits(postgresNaN), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	if len(src) == 0 || src[len(src)-1] > '9' || src[0] > '9' { // ParseFloat takes words and hexadecimal too
		return 0, badText("float", src)
	}
	f, err := strconv.ParseFloat(string(src), bits)
	if err != nil {
		return 0, badText("float", src)
	}
	return f, nil
}

func appendFloat4(dst, src []byte) ([]byte, error) {
	f, err := parseFloat(src, 32)
	return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(f))), err
}

func appendFloat8(dst, src []byte) ([]byte, error) {
	f, err := parseFloat(src, 64)
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f)), err
}

func appendUUID(dst, src []byte) ([]byte, error) {
	if len(src) != 36 || src[8] != '-' || src[13] != '-' || src[18] != '-' || src[23] != '-' {
		return nil, badText("uuid", src)
	}
	for _, part := range [...][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, 36}} {
		for i := part[0]; i < part[1]; i += 2 {
			hi, lo := hexDigit[src[i]], hexDigit[src[i+1]]
			if hi|lo > 15 {
				return nil, badText("uuid", src)
			}
			dst = append(dst, hi<<4|lo)
		}
	}
	return dst, nil
}

func appendBytea(dst, src []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(src, []byte(`\x`))
	if !ok {
		return nil, badText("bytea in hex", src)
	}
	out, err := hex.AppendDecode(dst, digits)
	if err != nil {
		return nil, badText("bytea in hex", src)
	}
	return out, nil
}

// appendQChar writes a "char": one byte. The zero byte is printed as nothing,
// one above 127 raw or, since Postgres 16, as \ooo.
func appendQChar(dst, src []byte) ([]byte, error) {
	switch {
	case len(src) == 0:
		return append(dst, 0), nil
	case len(src) == 1:
		return append(dst, src[0]), nil
	case len(src) == 4 && src[0] == '\\':
		v := 0
		for _, d := range src[1:] {
			if d < '0' || d > '7' {
				return nil, badText(`"char"`, src)
			}
			v = v<<3 | int(d-'0')
		}
		if v <= math.MaxUint8 {
			return append(dst, byte(v)), nil
		}
	}
	return nil, badText(`"char"`, src)
}

func appendBits(dst, src []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(src)))
	for len(src) > 0 {
		var b byte
		n := min(8, len(src))
		for i, ch := range src[:n] {
			if ch != '0' && ch != '1' {
				return nil, badText("bit string", src)
			}
			b |= (ch - '0') << (7 - i)
		}
		dst, src = append(dst, b), src[n:]
	}
	return dst, nil
}

func appendInet(dst, src []byte) ([]byte, error) { return appendNetwork(dst, src, 0) }
func appendCIDR(dst, src []byte) ([]byte, error) { return appendNetwork(dst, src, 1) }

// appendNetwork writes family, prefix length, whether it is a cidr, length and
// address. The families are Postgres' own: 2 and 3.
func appendNetwork(dst, src []byte, isCIDR byte) ([]byte, error) {
	host, bits, hasBits := bytes.Cut(src, []byte("/"))
	addr, err := netip.ParseAddr(string(host))
	if err != nil || addr.Zone() != "" {
		return nil, badText("network address", src)
	}
	n := uint64(addr.BitLen())
	if hasBits {
		var ok bool
		if n, ok = parseDigits(bits); !ok || n > uint64(addr.BitLen()) {
			return nil, badText("network address", src)
		}
	}
	if addr.Is4() {
		a := addr.As4()
		return append(append(dst, 2, byte(n), isCIDR, 4), a[:]...), nil
	}
	a := addr.As16()
	return append(append(dst, 3, byte(n), isCIDR, 16), a[:]...), nil
}

func appendMacaddr(dst, src []byte) ([]byte, error)  { return appendMAC(dst, src, 6) }
func appendMacaddr8(dst, src []byte) ([]byte, error) { return appendMAC(dst, src, 8) }

func appendMAC(dst, src []byte, n int) ([]byte, error) {
	if len(src) != 3*n-1 {
		return nil, badText("macaddr", src)
	}
	for i := 0; i < len(src); i += 3 {
		hi, lo := hexDigit[src[i]], hexDigit[src[i+1]]
		if hi|lo > 15 || i > 0 && src[i-1] != ':' {
			return nil, badText("macaddr", src)
		}
		dst = append(dst, hi<<4|lo)
	}
	return dst, nil
}
