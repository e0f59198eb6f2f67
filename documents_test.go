package lockstep_test

import (
	"testing"

	"github.com/pglockstep/lockstep"
)

func TestAKeyHasOneLookHoweverAClientWritesIt(t *testing.T) {
	for _, c := range []struct{ a, b string }{
		{`"a/b"`, `"a\/b"`},
		{`"é"`, `"\u00e9"`},
		{`"😀"`, `"\ud83d\ude00"`},
		{`"<&>"`, `"\u003c\u0026\u003e"`},
		{"\"\u2028\"", `"\u2028"`},
		{"\"\ufffd\"", `"\uFFFD"`},
		{"\"\ufffd\\\\uFFFD\"", `"\ufffd\\uFFFD"`},
		{` [ 1 , "x" ] `, `[1,"\u0078"]`},
		{` 7 `, `7`},
	} {
		a, errA := lockstep.DocumentKey(c.a)
		b, errB := lockstep.DocumentKey(c.b)
		if errA != nil || errB != nil || a != b {
			t.Errorf("%s and %s are %q, %v and %q, %v", c.a, c.b, a, errA, b, errB)
		}
	}
}

func TestKeysThatDifferStayApart(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		`9007199254740992`, `9007199254740993`, `"9007199254740993"`, `[9007199254740993]`, `-1`, `"1,2"`, `[1,2]`, `["1,2"]`,
		`["1","2"]`, `["[1",2]`, `""`, `true`, `"true"`, `"A"`, `"a"`, `"a\u0301"`, `"á"`,
	} {
		key, err := lockstep.DocumentKey(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s are both %q", text, other, key)
		}
		seen[key] = text
	}
}

func TestWhatIsNoKeyIsRefused(t *testing.T) {
	for _, text := range []string{
		``, ` `, `a`, `'a'`, `null`, `[null]`, `{}`, `[[1]]`, `[{}]`, `[1`, `[1] 2`, `1 2`, `01`, `"a`, `NaN`,
		`"\ud800"`, `"\ude00\ud83d"`, "\"\xff\"", "\"\ufffd\xff\"", `"\ufffd\ud800"`,
	} {
		if key, err := lockstep.DocumentKey(text); err == nil {
			t.Errorf("%q is the key %q", text, key)
		}
	}
}
