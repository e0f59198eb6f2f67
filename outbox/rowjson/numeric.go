package rowjson

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The signs of numeric_send, from Postgres' numeric.c.
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInf      = 0xD000
	numericNegInf   = 0xF000
	// numericInfScale is what numeric_send finds where a finite number keeps its scale.
	numericInfScale = 0x20
)

// appendNumeric writes the number of base-10000 digits, the weight of the
// first one, the sign, the number of decimals printed, and the digits.
func appendNumeric(dst, src []byte) ([]byte, error) {
	switch string(src) {
	case "NaN":
		return appendNumericHeader(dst, 0, 0, numericNaN, 0), nil
	case "Infinity":
		return appendNumericHeader(dst, 0, 0, numericInf, numericInfScale), nil
	case "-Infinity":
		return appendNumericHeader(dst, 0, 0, numericNegInf, numericInfScale), nil
	}
	text, negative := bytes.CutPrefix(src, []byte("-"))
	whole, frac, hasPoint := bytes.Cut(text, []byte("."))
	if len(whole) == 0 || hasPoint && len(frac) == 0 || len(frac) > math.MaxInt16 ||
		len(whole) > 4*(math.MaxInt16+1) || !allDigits(whole) || !allDigits(frac) {
		return nil, badText("numeric", src)
	}
	sign := uint16(0)
	if negative {
		sign = numericNegative
	}
	mark := len(dst)
	dst = appendNumericHeader(dst, 0, 0, sign, uint16(len(frac)))
	return packNumeric(dst, mark, whole, frac), nil
}

func appendNumericHeader(dst []byte, ndigits, weight, sign, scale uint16) []byte {
	dst = binary.BigEndian.AppendUint16(dst, ndigits)
	dst = binary.BigEndian.AppendUint16(dst, weight)
	dst = binary.BigEndian.AppendUint16(dst, sign)
	return binary.BigEndian.AppendUint16(dst, scale)
}

// packNumeric appends the digits, four decimals each, counted from the decimal
// point, without zeros at either end, and fills in their number and weight.
func packNumeric(dst []byte, mark int, whole, frac []byte) []byte {
	wholeGroups := (len(whole) + 3) / 4
	fracGroups := (len(frac) + 3) / 4
	n, kept, weight := 0, 0, 0 // kept: up to the last one that is not zero
	for g := -wholeGroups; g < fracGroups; g++ {
		d := decimalGroup(whole, frac, g)
		if d == 0 && n == 0 {
			continue
		}
		if n == 0 {
			weight = -g - 1
		}
		dst = binary.BigEndian.AppendUint16(dst, d)
		if n++; d != 0 {
			kept = n
		}
	}
	dst = dst[:mark+8+2*kept]
	binary.BigEndian.PutUint16(dst[mark:], uint16(kept))
	binary.BigEndian.PutUint16(dst[mark+2:], uint16(int16(weight)))
	if kept == 0 {
		binary.BigEndian.PutUint16(dst[mark+4:], 0) // zero has no sign
	}
	return dst
}

// decimalGroup returns the four decimals of group g: -1 is the one before the
// point, 0 the one after it.
func decimalGroup(whole, frac []byte, g int) uint16 {
	v := uint16(0)
	for i := 4 * g; i < 4*g+4; i++ {
		v *= 10
		switch {
		case i < 0 && len(whole)+i >= 0:
			v += uint16(whole[len(whole)+i] - '0')
		case i >= 0 && i < len(frac):
			v += uint16(frac[i] - '0')
		}
	}
	return v
}

func allDigits(b []byte) bool {
	for _, ch := range b {
		if ch < '0' || ch > '9' {
			return false
		}
	}
	return true
}
