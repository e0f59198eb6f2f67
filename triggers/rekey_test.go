package triggers_test

import (
	"fmt"
	"slices"
	"testing"
)

// An UPDATE that changes keys leaves no old one behind, whatever the key looks like and wherever it stands:
// of one row and of several, as a transaction's first statement and as a later one.
func TestAnUpdateOfKeysLeavesNoOldOneBehind(t *testing.T) {
	numbers := [4]string{"1", "12", "2", "3"}
	for name, shape := range map[string]struct {
		sql  string // a table t whose key is k, or k and l
		keys [4]string
	}{
		"first":           {"create table t (k int primary key, v int)", numbers},
		"alone":           {"create table t (k int primary key)", numbers},
		"last":            {"create table t (a int, v int, k int primary key)", numbers},
		"behind a column": {"create table t (gone int, k int primary key, v int); alter table t drop gone", numbers},
		"text":            {"create table t (k text primary key, v int)", [4]string{`'a'`, `'a,"k":"b'`, `e'a\\"\n'`, `'ä, '`}},
		"two columns":     {"create table t (k text, l text default 'x', v int, primary key (k, l))", [4]string{`'a'`, `'a,'`, `'ab'`, `'",b'`}},
		"two, turned":     {"create table t (l text default 'x', v int, k text, primary key (k, l))", [4]string{`'a'`, `'a,'`, `'ab'`, `'",b'`}},
		"a time":          {"create table t (k timestamptz primary key, v int)", [4]string{"'2026-01-01'", "'infinity'", "'2026-01-02 00:00+01'", "'-infinity'"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, shape.sql+"; create table other (id int primary key)", "public.t", "public.other")
			for i, before := range []string{"", "insert into other values (%d);"} {
				r.Exec(t, "delete from t; delete from other")
				for _, k := range shape.keys[:3] {
					r.Exec(t, "insert into t (k) values ("+k+")")
				}
				for n, sql := range []string{
					"update t set k = k where k = " + shape.keys[0],
					"update t set k = " + shape.keys[3] + " where k = " + shape.keys[0],
					"update t set k = k",
					"update t set k = " + shape.keys[0] + " where k = " + shape.keys[1],
					"update t set k = case when k = " + shape.keys[2] + " then " + shape.keys[1] + " else k end",
				} {
					if i > 0 {
						sql = fmt.Sprintf("begin;"+before+sql+"; commit", n)
					}
					r.Exec(t, sql)
					r.wantFold(t, "after "+sql)
				}
			}
		})
	}
}

// The key's name that capture was told may be another column's by now.
func TestARenamedKeyIsNotMistakenForTheColumnThatHasItsName(t *testing.T) {
	r := newRig(t, "create table t (k int primary key, v int); insert into t values (1, 7)", "public.t")
	r.Exec(t, "alter table t rename k to x; alter table t rename v to k")
	r.Exec(t, "update t set x = 2")
	if got := r.short(t); !slices.Contains(got, `D {"x":1}`) || !slices.Contains(got, `U {"x":2,"k":7}`) {
		t.Errorf("captured %q", got)
	}
	r = newRig(t, "create table t (k int primary key, v int); insert into t values (1, 7)", "public.t")
	r.Exec(t, "alter table t add n int; update t set n = k; alter table t drop k; alter table t rename n to k; alter table t add primary key (k)")
	r.Exec(t, "update t set k = 2")
	r.wantFold(t, "after the key's column was replaced")
}
