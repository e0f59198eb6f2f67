package rowjson

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
)

// A sample gives values of one type, as its input takes them under any
// settings of a writer.
type sample struct {
	fixed  []string                  // edges, all of them tried
	random func(r *rand.Rand) string // may be nil
}

// samples has every built-in type that is not refused. A type that a new
// version of Postgres brings must be entered here, or refused.
var samples = map[string]sample{
	"bool":    {fixed: []string{"t", "f"}},
	"int2":    {fixed: []string{"0", "-1", "32767", "-32768"}, random: bits(16)},
	"int4":    {fixed: []string{"0", "-1", "2147483647", "-2147483648"}, random: bits(32)},
	"int8":    {fixed: []string{"0", "9223372036854775807", "-9223372036854775808"}, random: bits(64)},
	"oid":     {fixed: []string{"0", "4294967295"}},
	"xid":     {fixed: []string{"0", "4294967295"}},
	"cid":     {fixed: []string{"0", "4294967295"}},
	"xid8":    {fixed: []string{"0", "18446744073709551615"}},
	"oid8":    {fixed: []string{"0", "18446744073709551615"}},
	"tid":     {fixed: []string{"(0,0)", "(4294967295,65535)", "(12,34)"}},
	"float4":  {fixed: []string{"0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1"}, random: randomFloat4},
	"float8":  {fixed: []string{"0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1", "1e20"}, random: randomFloat8},
	"numeric": {fixed: numericSamples, random: randomNumeric},
	"money":   {fixed: []string{"0", "-12.34", "1234567.89", "92233720368547758.07", "-92233720368547758.08"}},
	"text":    {fixed: textSamples, random: randomText},
	"varchar": {fixed: textSamples, random: randomText},
	"bpchar":  {fixed: append([]string{"padded   "}, textSamples...), random: randomText},
	"name":    {fixed: []string{"", "plain", `a"b\c`, "ü ñ", "null"}},
	"char":    {fixed: []string{"", "a", `"`, `\`, ",", " ", "{"}},
	"bytea":   {fixed: []string{`\x`, `\x00`, `\x5c22`, `\xdeadbeef`}, random: randomBytea},
	"uuid":    {fixed: []string{"00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}, random: randomUUID},
	"json": {fixed: []string{
		"null", " null ", "1", `"a\u0041\u00e9\ud83d\ude00 \"q\" \\"`, "{}", "[]", ` {"a" : [1, 2, {"b":null}]} `, "[null]", "true",
		"\n[1,\t2]\r\n", `"null"`, "-0.0", `{"a":1,"a":2}`,
	}},
	"jsonb": {fixed: []string{
		"null", "1", `"a\"\\b"`, "{}", "[]", `{"a": [1, 2, {"b": null}]}`, "[null]", "true", `"null"`, "1.00", `{"n": 1e30}`,
	}},
	"jsonpath":      {fixed: []string{"$", `$."a b"[*] ? (@ > 1)`}},
	"xml":           {fixed: []string{"<a/>", `<?xml version="1.0" encoding="UTF-8"?><a b="&lt;">ü</a>`, "text only"}},
	"date":          {fixed: dateSamples, random: randomDate},
	"time":          {fixed: []string{"00:00:00", "24:00:00", "23:59:59.999999", "12:34:56.7"}, random: randomTime},
	"timetz":        {fixed: []string{"00:00:00+00", "23:59:59.999999-15:59", "12:00:00+05:30", "24:00:00+01:02:03"}},
	"timestamp":     {fixed: stampSamples("", "294276-12-31 23:59:59.999999"), random: randomTimestamp},
	"timestamptz":   {fixed: stampSamples("+00", "294276-12-31 23:59:59.999999+00"), random: randomTimestamp},
	"interval":      {fixed: intervalSamples, random: randomInterval},
	"bit":           {fixed: []string{"0", "1"}},
	"varbit":        {fixed: []string{"", "1", "10110", "11111111", "000000001"}, random: randomBits},
	"inet":          {fixed: []string{"0.0.0.0/0", "10.1.2.3", "10.1.2.3/8", "::", "::1", "fe80::1/64", "::ffff:1.2.3.4", "::1.2.3.4/100"}, random: randomInet},
	"cidr":          {fixed: []string{"0.0.0.0/0", "10.1.2.3/32", "10.0.0.0/8", "::/0", "2001:db8::/32", "::ffff:1.2.3.4/128"}},
	"macaddr":       {fixed: []string{"00:00:00:00:00:00", "08:00:2b:01:02:ff"}},
	"macaddr8":      {fixed: []string{"00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:ff"}},
	"point":         {fixed: []string{"(0,0)", "(-1.5,1e300)", "(NaN,Infinity)", "(-Infinity,-0)"}},
	"lseg":          {fixed: []string{"[(0,0),(1,1)]", "[(0.1,-2),(3e-10,4)]"}},
	"box":           {fixed: []string{"(1,1),(0,0)", "(3.5,4),(-0.1,-2)"}},
	"path":          {fixed: []string{"((0,0),(1,1),(2,0))", "[(0,0),(1.5,1)]", "[(1,2)]"}},
	"polygon":       {fixed: []string{"((0,0),(1,1),(2,0))", "((0.1,0))"}},
	"line":          {fixed: []string{"{1,-1,0}", "{0,1.5,-2}"}},
	"circle":        {fixed: []string{"<(0,0),1>", "<(1.5,-2),0>"}},
	"tsvector":      {fixed: []string{"", "a", `'it''s':1A,2B fat:3 'a b':7C`, `'\\':4D`}},
	"tsquery":       {fixed: []string{"", "a & b", `'it''s' | !fat:AB*`, "a <-> b"}},
	"pg_lsn":        {fixed: []string{"0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"}},
	"pg_snapshot":   {fixed: []string{"1:1:", "10:20:10,14,15"}},
	"txid_snapshot": {fixed: []string{"1:1:", "10:20:10,14,15"}},
	"refcursor":     {fixed: []string{"", `a "cursor"`}},
	"int2vector":    {fixed: []string{"", "1", "-1 2 32767"}},
	"oidvector":     {fixed: []string{"", "1", "0 4294967295"}},

	"int4range":      {fixed: []string{"empty", "(,)", "[1,5)", "[-3,)", "(,7]", "(1,10]"}},
	"int8range":      {fixed: []string{"empty", "(,)", "[1,5)", "[-9223372036854775808,)"}},
	"numrange":       {fixed: []string{"empty", "(,)", "[1.0,5.50)", "(-1e10,NaN]", "[-Infinity,Infinity]", "[0.00,0.00]"}},
	"daterange":      {fixed: []string{"empty", "(,)", "[2020-01-01,2020-02-01)", `["0044-03-15 BC",infinity)`, "[-infinity,2000-01-01)"}},
	"tsrange":        {fixed: []string{"empty", "(,)", "[2020-01-01 01:02:03.4,2021-01-01)", `("0044-03-15 00:00:00 BC",infinity]`}},
	"tstzrange":      {fixed: []string{"empty", "(,)", "[2020-01-01 01:02:03.4+00,2021-01-01 00:00:00+05:30)", `("0044-03-15 00:00:00+00 BC",infinity]`}},
	"int4multirange": {fixed: []string{"{}", "{[1,5)}", "{(,0),[3,5),[7,)}"}},
	"int8multirange": {fixed: []string{"{}", "{[1,5)}", "{(,0),[3,5),[7,)}"}},
	"nummultirange":  {fixed: []string{"{}", "{[1.0,5.50)}", "{(,0),[3,5),[7,)}"}},
	"datemultirange": {fixed: []string{"{}", `{["0044-03-15 BC",2000-01-01),[2020-01-01,)}`}},
	"tsmultirange":   {fixed: []string{"{}", `{[2020-01-01 01:02:03,2020-01-02),["2021-01-01 00:00:00",)}`}},
	"tstzmultirange": {fixed: []string{"{}", `{[2020-01-01 01:02:03+00,2020-01-02 00:00:00+00),["2021-01-01 00:00:00+00",)}`}},
}

var numericSamples = []string{
	"0", "0.00", "-0.0", "1", "10000", "100000000", "0.0001", "0.00001", "12345.6789", "-12345.67890", "1e-30", "9999.9999",
	"1e100", "NaN", "Infinity", "-Infinity", "1" + strings.Repeat("0", 3000) + ".5", "100.00", "10000.0", "0.10", "123456789012345678901234567890.12",
}

var textSamples = []string{
	"", " ", "null", "NULL", "plain", `a"b`, `a\b`, "a,b", "{a}", "(a)", "a;b", "tab\tnew\nline\r\v\f\b", "ünïcödé 漢字 😀", "\x01\x1f\x7f", "/", "a'b",
	"\u2028\u2029", `\u0041`, `"`, `\`, `""`, `\\`, strings.Repeat(`"\`, 20),
}

var dateSamples = []string{
	"2000-01-01", "1999-12-31", "2000-02-29", "1900-02-28", "0001-01-01", "0001-12-31 BC", "0044-03-15 BC", "4714-11-24 BC",
	"0005-02-28 BC", "5874897-12-31", "10000-01-01", "infinity", "-infinity", "1970-01-01", "2024-12-31",
}

func stampSamples(zone, last string) []string {
	all := []string{"infinity", "-infinity", last}
	for _, s := range []string{
		"2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2000-02-29 12:34:56.7", "0001-01-01 00:00:00", "10000-01-01 00:00:00.000001", "1969-12-31 23:59:59.5",
	} {
		all = append(all, s+zone)
	}
	for _, s := range []string{"0044-03-15 00:00:00", "4714-11-24 00:00:00", "0001-12-31 23:59:59.000001"} {
		all = append(all, s+zone+" BC")
	}
	return all
}

var intervalSamples = []string{
	"0", "1 year", "-1 year", "1 year 2 mons 3 days 04:05:06.7", "-1 year -2 mons +3 days -04:05:06.000001", "1 mon -1 day",
	"1 day -00:00:00.5", "-00:00:01", "2562047788:00:54.775807", "-2562047788:00:54.775807", "178000000 years", "-178000000 years -11 mons", "2147483647 days", "-2147483648 days", "00:00:00.1",
}

func bits(n uint) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		return strconv.FormatInt(int64(r.Uint64())>>(64-n)>>r.UintN(n), 10)
	}
}

func randomFloat4(r *rand.Rand) string {
	return strconv.FormatFloat(float64(finite(r, func() float64 { return float64(math.Float32frombits(r.Uint32())) })), 'g', -1, 32)
}

func randomFloat8(r *rand.Rand) string {
	return strconv.FormatFloat(finite(r, func() float64 { return math.Float64frombits(r.Uint64()) }), 'g', -1, 64)
}

func finite(_ *rand.Rand, draw func() float64) float64 {
	for {
		if f := draw(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
	}
}

func randomNumeric(r *rand.Rand) string {
	digits := func(most int) string {
		b := make([]byte, r.IntN(most))
		for i := range b {
			b[i] = "0000123456789"[r.IntN(13)]
		}
		return string(b)
	}
	s := "0" + digits(20)
	if r.IntN(2) == 0 {
		s = "-" + s
	}
	if f := digits(20); f != "" {
		s += "." + f
	}
	return s
}

func randomText(r *rand.Rand) string {
	alphabet := []rune("ab \"\\{}(),;'\n\t\r\v\fü漢😀\x01\x1fNULnul/[]:<>é\u0300")
	b := make([]rune, r.IntN(12))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomBytea(r *rand.Rand) string { return `\x` + hex.EncodeToString(randomBytes(r, r.IntN(40))) }

func randomUUID(r *rand.Rand) string { return hex.EncodeToString(randomBytes(r, 16)) }

func randomDate(r *rand.Rand) string {
	year, bc := 1+r.IntN(6000), ""
	if r.IntN(3) == 0 {
		year, bc = 1+r.IntN(4712), " BC"
	}
	return fmt.Sprintf("%04d-%02d-%02d%s", year, 1+r.IntN(12), 1+r.IntN(28), bc)
}

func randomTime(r *rand.Rand) string {
	s := fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60))
	if r.IntN(2) == 0 {
		s += fmt.Sprintf(".%06d", r.IntN(1000000))
	}
	return s
}

func randomTimestamp(r *rand.Rand) string {
	date, bc := strings.CutSuffix(randomDate(r), " BC")
	s := date + " " + randomTime(r) + "+00"
	if bc {
		s += " BC"
	}
	return s
}

func randomInterval(r *rand.Rand) string {
	return fmt.Sprintf("%d years %d mons %d days %d seconds %d microseconds",
		r.IntN(200)-100, r.IntN(40)-20, r.IntN(100)-50, r.IntN(2000000)-1000000, r.IntN(2000000)-1000000)
}

func randomBits(r *rand.Rand) string {
	b := make([]byte, r.IntN(40))
	for i := range b {
		b[i] = '0' + byte(r.IntN(2))
	}
	return string(b)
}

func randomInet(r *rand.Rand) string {
	a := netip.AddrFrom4([4]byte(randomBytes(r, 4)))
	if r.IntN(2) == 0 {
		a = netip.AddrFrom16([16]byte(randomBytes(r, 16)))
	}
	return netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).String()
}
