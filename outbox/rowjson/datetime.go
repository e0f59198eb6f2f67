package rowjson

import (
	"bytes"
	"encoding/binary"
	"math"
)

// stamp is a date and time of day as ISO 8601 prints it: row_to_json puts a 'T'
// between them and writes the zone as +00:00, the output functions a space and +00.
type stamp struct {
	days    int64 // since 2000-01-01
	micros  int64 // since midnight
	offset  int64 // of the zone, in seconds east
	hasTime bool
}

const microsPerDay = 86_400_000_000

func parseStamp(src []byte) (s stamp, ok bool) {
	b, bc := bytes.CutSuffix(src, []byte(" BC"))
	dash := bytes.IndexByte(b, '-')
	if dash < 4 || dash > 7 || len(b) < dash+6 || b[dash+3] != '-' {
		return s, false
	}
	year, ok1 := parseDigits(b[:dash])
	month, ok2 := parseDigits(b[dash+1 : dash+3])
	day, ok3 := parseDigits(b[dash+4 : dash+6])
	if !ok1 || !ok2 || !ok3 || year < 1 {
		return s, false
	}
	y := int64(year)
	if bc {
		y = 1 - y
	}
	if month < 1 || month > 12 || day < 1 || day > daysIn(y, month) {
		return s, false
	}
	s.days = daysSince2000(y, int64(month), int64(day))
	b = b[dash+6:]
	if len(b) == 0 {
		return s, true
	}
	if b[0] != 'T' && b[0] != ' ' {
		return s, false
	}
	s.hasTime = true
	zone := b[1:]
	if i := bytes.IndexAny(zone, "+-Z"); i >= 0 {
		if s.offset, ok = parseZone(zone[i:]); !ok {
			return s, false
		}
		zone = zone[:i]
	}
	s.micros, ok = parseClock(zone)
	return s, ok
}

// parseClock reads hh:mm:ss[.ffffff], from 00:00:00 to 24:00:00.
func parseClock(b []byte) (micros int64, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return 0, false
	}
	h, ok1 := parseDigits(b[:2])
	m, ok2 := parseDigits(b[3:5])
	s, ok3 := parseSeconds(b[6:])
	if !ok1 || !ok2 || !ok3 || m > 59 {
		return 0, false
	}
	micros = int64(h)*3_600_000_000 + int64(m)*60_000_000 + s
	return micros, micros <= microsPerDay
}

// parseSeconds reads ss[.ffffff] in microseconds.
func parseSeconds(b []byte) (micros int64, ok bool) {
	whole, frac, hasPoint := bytes.Cut(b, []byte("."))
	s, ok := parseDigits(whole)
	if !ok || len(whole) != 2 || s > 60 {
		return 0, false
	}
	micros = int64(s) * 1_000_000
	if !hasPoint {
		return micros, true
	}
	f, ok := parseDigits(frac)
	if !ok || len(frac) > 6 {
		return 0, false
	}
	for range 6 - len(frac) {
		f *= 10
	}
	return micros + int64(f), true
}

// parseZone reads Z or ±hh[:mm[:ss]] in seconds.
func parseZone(b []byte) (seconds int64, ok bool) {
	if string(b) == "Z" {
		return 0, true
	}
	for unit, rest := int64(3600), b[1:]; ; unit /= 60 {
		part, more, hasMore := bytes.Cut(rest, []byte(":"))
		v, ok := parseDigits(part)
		if !ok || len(part) != 2 || unit == 0 {
			return 0, false
		}
		seconds += int64(v) * unit
		if rest = more; !hasMore {
			break
		}
	}
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func daysIn(year int64, month uint64) uint64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince2000 counts in the proleptic Gregorian calendar; year 0 is 1 BC.
// The year is taken to begin in March, so that a leap day is its last.
func daysSince2000(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	const before2000 = 730_425 // from March of year 0 to 2000-01-01
	return 365*year + floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400) +
		(153*(month-3)+2)/5 + day - 1 - before2000
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func appendDate(dst, src []byte) ([]byte, error) {
	switch string(src) {
	case "infinity":
		return binary.BigEndian.AppendUint32(dst, math.MaxInt32), nil
	case "-infinity":
		return binary.BigEndian.AppendUint32(dst, 1<<31), nil
	}
	s, ok := parseStamp(src)
	if !ok || s.hasTime || s.days <= math.MinInt32 || s.days >= math.MaxInt32 {
		return nil, badText("date", src)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(s.days)), nil
}

func appendTime(dst, src []byte) ([]byte, error) {
	micros, ok := parseClock(src)
	if !ok {
		return nil, badText("time", src)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(micros)), nil
}

func appendTimestamp(dst, src []byte) ([]byte, error) {
	return appendInstant(dst, src, "timestamp")
}

func appendTimestamptz(dst, src []byte) ([]byte, error) {
	return appendInstant(dst, src, "timestamptz")
}

func appendInstant(dst, src []byte, typ string) ([]byte, error) {
	switch string(src) {
	case "infinity":
		return binary.BigEndian.AppendUint64(dst, math.MaxInt64), nil
	case "-infinity":
		return binary.BigEndian.AppendUint64(dst, 1<<63), nil
	}
	const mostDays = 107_000_000 // beyond what Postgres stores, within int64 in microseconds
	s, ok := parseStamp(src)
	if !ok || !s.hasTime || s.days > mostDays || s.days < -mostDays {
		return nil, badText(typ, src)
	}
	micros := s.days*microsPerDay + s.micros - s.offset*1_000_000
	return binary.BigEndian.AppendUint64(dst, uint64(micros)), nil
}

func appendTimestampText(dst, src []byte) []byte {
	if i := bytes.IndexByte(src, 'T'); i >= 0 {
		dst = append(dst, src[:i]...)
		dst, src = append(dst, ' '), src[i+1:]
	}
	return append(dst, src...)
}

// appendTimestamptzText also drops the minutes of a zone of whole hours, which
// the pinned UTC always is.
func appendTimestamptzText(dst, src []byte) []byte {
	mark := len(dst)
	dst = appendTimestampText(dst, src)
	out, bc := bytes.CutSuffix(dst[mark:], []byte(" BC"))
	if n := len(out); n > 6 && string(out[n-3:]) == ":00" && (out[n-6] == '+' || out[n-6] == '-') {
		dst = dst[:mark+n-3]
		if bc {
			dst = append(dst, " BC"...)
		}
	}
	return dst
}
