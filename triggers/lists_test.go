package triggers_test

import (
	"fmt"
	"strings"
	"testing"
)

// Of a statement's rows the first are events of their own, and the rest lists, of one number each, in the order of the rows.
func TestManyRowsArePackedIntoLists(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text default 'v')", "public.a")
	packed := func(what, op string, rows, leading int) {
		t.Helper()
		events := r.events(t)
		numbers, single := map[int64]int{}, 0
		for i, e := range events {
			numbers[e.Seq]++
			if want := fmt.Sprintf(`{"id":%d,`, i+1); e.Op != op || len(e.Row) < len(want) || e.Row[:len(want)] != want {
				t.Fatalf("%s: event %d of %d is %+v", what, i, len(events), e)
			}
			if e.Lead != (i == 0 && leading > 0) {
				t.Errorf("%s: event %d leads: %v", what, i, e.Lead)
			}
		}
		for _, n := range numbers {
			if n == 1 {
				single++
			}
		}
		if len(events) != rows || single < min(rows, 16) || len(numbers) > 16+(rows-16)/30+1 {
			t.Errorf("%s: %d events by %d numbers, %d of them alone", what, len(events), len(numbers), single)
		}
		r.wantFold(t, what)
	}
	for _, rows := range []int{1, 15, 16, 17, 1000} {
		r.Exec(t, "truncate a; delete from lockstep.outbox")
		r.Exec(t, fmt.Sprintf("insert into a select i from generate_series(1, %d) i", rows))
		packed(fmt.Sprintf("%d inserted", rows), "I", rows, 1)
		r.Exec(t, "delete from lockstep.outbox")
		r.Exec(t, "with x as (update a set v = 'w' where id in (select id from a order by id) returning 1) select from x")
		packed(fmt.Sprintf("%d updated", rows), "U", rows, 1)
		r.Exec(t, "delete from lockstep.outbox")
		r.Exec(t, "delete from a")
		if events := r.events(t); len(events) != rows {
			t.Errorf("%d deleted: %d events", rows, len(events))
		}
		r.wantFold(t, "deleted")
	}
}

// Two cascades of one statement can write a row twice, and both images come in one transition table.
func TestARowThatIsInListsTwiceStaysAsItWasWrittenLast(t *testing.T) {
	for name, c := range map[string]struct {
		rows     int
		is, less string // without this rule it goes wrong
	}{
		"in one list": {40, "order by pack, s.size", "order by pack, s.size desc"},
		"in two":      {1000, "group by d.pack order by d.pack", "group by d.pack order by d.pack desc"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fmt.Sprintf(`
				create table p (id int primary key); create table q (id int primary key references p on update cascade);
				create table c (id int primary key, p int references p on update cascade, q int references q on update cascade);
				insert into p select i from generate_series(1, %[1]d) i; insert into q select i from generate_series(1, %[1]d) i;
				insert into c select i, i, i from generate_series(1, %[1]d) i`, c.rows), "public.c")
			r.Exec(t, "update p set id = id + 10000")
			if n := len(r.events(t)); n != 2*c.rows {
				t.Fatalf("%d rows were captured %d times: this shows nothing", c.rows, n)
			}
			r.wantFold(t, "after both cascades")
			r.Exec(t, "delete from lockstep.outbox")
			defer r.change(t, "capture()", c.is, c.less)()
			r.Exec(t, "update p set id = id + 10000")
			if r.folded(t) == "" {
				t.Errorf("%q makes no difference", c.is)
			}
		})
	}
}

// A row that is too large among many: all are named by their keys once more, and nothing is lost.
func TestARowTooLargeAmongManyIsNamedByItsKey(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v text)", "public.a")
	for _, large := range []int{3, 16, 17, 500, 1000} {
		r.Exec(t, "truncate a; delete from lockstep.outbox")
		r.Exec(t, fmt.Sprintf("insert into a select i, case when i = %d then (select string_agg(md5(x::text), '') from generate_series(1, 10000) x) else 'v' end from generate_series(1, 1000) i", large))
		if n := reloads(r.events(t)); n != 1 {
			t.Errorf("row %d is too large: %d rows are named by their key", large, n)
		}
		r.wantFold(t, "inserted")
		r.Exec(t, "update a set v = v")
		r.wantFold(t, "updated")
		r.Exec(t, "delete from a")
		r.wantFold(t, "deleted")
	}
}

func reloads(events []event) (n int) {
	for _, e := range events {
		if e.Op == "R" {
			n++
		}
	}
	return n
}

// Keys that change in the middle of many rows leave none behind.
func TestKeysOfManyRowsThatChangeLeaveNoneBehind(t *testing.T) {
	r := newRig(t, "create table a (id int primary key, v int); insert into a select i, 0 from generate_series(1, 1000) i", "public.a")
	for _, sql := range []string{
		"update a set v = v + 1, id = case when id = 700 then 5000 else id end",
		"update a set v = v + 1, id = -id", "update a set id = -id where id < 0", "update a set v = 9",
	} {
		r.Exec(t, sql)
		r.wantFold(t, sql)
	}
}

// Columns may be called like whatever capture calls its own, and like what a statement that packs does.
func TestColumnsOfManyRowsMayHaveAnyName(t *testing.T) {
	const names = "n, o, r, s, d, i, w, k, doc, size, pack, part, note, kind, mark, lead"
	r := newRig(t, "create table a (key int primary key, "+strings.ReplaceAll(names, ",", " int,")+" int); create table b ("+strings.ReplaceAll(names, ",", " int,")+" int, primary key (n, o))", "public.a", "public.b")
	for _, sql := range []string{
		"insert into a (key, " + names + ") select i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i from generate_series(1, 100) i",
		"insert into b (" + names + ") select i, i, i, i, i, i, i, i, i, i, i, i, i, i, i, i from generate_series(1, 100) i",
		"update a set n = 2, doc = 3", "update b set pack = 2, doc = 3", "update b set n = n + 50", "update a set key = key + 1000", "delete from a", "delete from b",
	} {
		r.Exec(t, sql)
		r.wantFold(t, sql)
	}
}
