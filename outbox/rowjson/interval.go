package rowjson

import (
	"bytes"
	"encoding/binary"
	"math"
)

// appendInterval reads what IntervalStyle postgres prints, such as
// "1 year -2 mons +3 days -04:05:06.7", and writes microseconds, days, months.
func appendInterval(dst, src []byte) ([]byte, error) {
	switch string(src) {
	case "infinity":
		return appendIntervalParts(dst, math.MaxInt64, math.MaxInt32, math.MaxInt32), nil
	case "-infinity":
		return appendIntervalParts(dst, math.MinInt64, math.MinInt32, math.MinInt32), nil
	}
	var micros, days, months int64
	rest := src
	for len(rest) > 0 {
		var word, unit []byte
		word, rest, _ = bytes.Cut(rest, []byte(" "))
		if bytes.IndexByte(word, ':') >= 0 {
			var ok bool
			if micros, ok = parseSpan(word); !ok || len(rest) > 0 {
				return nil, badText("interval", src)
			}
			break
		}
		unit, rest, _ = bytes.Cut(rest, []byte(" "))
		v, ok := parseInt(bytes.TrimPrefix(word, []byte("+")), 33)
		if !ok {
			return nil, badText("interval", src)
		}
		switch string(bytes.TrimSuffix(unit, []byte("s"))) {
		case "year":
			months += 12 * v
		case "mon":
			months += v
		case "day":
			days += v
		default:
			return nil, badText("interval", src)
		}
	}
	if len(src) == 0 || days != int64(int32(days)) || months != int64(int32(months)) {
		return nil, badText("interval", src)
	}
	return appendIntervalParts(dst, micros, int32(days), int32(months)), nil
}

func appendIntervalParts(dst []byte, micros int64, days, months int32) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(micros))
	dst = binary.BigEndian.AppendUint32(dst, uint32(days))
	return binary.BigEndian.AppendUint32(dst, uint32(months))
}

// parseSpan reads [+-]h…h:mm:ss[.ffffff], any number of hours.
func parseSpan(b []byte) (micros int64, ok bool) {
	negative := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		negative = b[0] == '-'
		b = b[1:]
	}
	colon := bytes.IndexByte(b, ':')
	if colon < 2 || len(b) < colon+6 || b[colon+3] != ':' {
		return 0, false
	}
	h, ok1 := parseDigits(b[:colon])
	m, ok2 := parseDigits(b[colon+1 : colon+3])
	s, ok3 := parseSeconds(b[colon+4:])
	const mostHours = math.MaxInt64 / 3_600_000_000
	if !ok1 || !ok2 || !ok3 || m > 59 || h > mostHours {
		return 0, false
	}
	// Unsigned: the longest span is one microsecond longer backwards.
	u := h*3_600_000_000 + m*60_000_000 + uint64(s)
	switch {
	case negative && u <= 1<<63:
		return -int64(u), true
	case !negative && u <= math.MaxInt64:
		return int64(u), true
	}
	return 0, false
}
