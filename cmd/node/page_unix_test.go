//go:build unix

package main

import (
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

var screenshots = flag.String("screenshots", "", "directory into which TestTheDemosPageInABrowser writes pictures of the page")

var pageAddress = regexp.MustCompile(`look at it in a browser: (http://\S+)`)

// card is what the page shows of a node: a selector.
func card(node, part string) string { return fmt.Sprintf("article[data-name=%s] %s", node, part) }

// says is an expression: the text of the first element of a selector.
func says(selector string) string {
	return fmt.Sprintf("(document.querySelector(%q)?.innerText ?? '')", selector)
}

func TestTheDemosPageInABrowser(t *testing.T) {
	chromium(t)
	build(t)
	tmp := temporary(t)
	r := startDemo(t, tmp, "--duration", "60s", "--rate", "100")
	r.limit.Reset(8 * time.Minute)
	r.until("look at it in a browser")
	address := pageAddress.FindStringSubmatch(r.said.String())[1]
	read := make(chan struct{})
	go func() { // it must not be held up
		defer close(read)
		_, _ = r.out.WriteTo(&r.said)
	}()
	for _, c := range []struct {
		width, height int64
		victim        string
	}{{1280, 1480, "node-2"}, {390, 1700, "node-3"}} {
		t.Run(fmt.Sprint(c.width), func(t *testing.T) {
			pressEverything(t, openBrowser(t, c.width, c.height, address), c.width, c.height, c.victim)
		})
	}
	r.interrupt()
	<-read
	if status, said := r.end(); status != 0 || !strings.Contains(said, "every node holds exactly what Postgres holds") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	wantNothing(t, tmp)
}

// pressEverything presses each button and reads what becomes of it, with one node cut off.
func pressEverything(t *testing.T, b *browser, width, height int64, victim string) {
	b.until(says("#facts") + ".includes('3 of 3')")
	b.until("[...document.querySelectorAll('figure img')].length === 6 && [...document.querySelectorAll('figure img')].every(i => i.naturalWidth > 0 && i.alt !== '')")

	// A node is cut off: it says so, and goes on answering as things were.
	before := b.read(says(card(victim, ".answer b")))
	b.press(card(victim, "[data-do=cut]"))
	b.until(says("#said") + ".includes('lost its way')")
	b.until(says(card(victim, ".pill")) + " === 'stale'")
	b.press("[data-do=manager]")
	b.until(says("#said") + ".includes('new manager')")
	b.until(fmt.Sprintf("%s !== %q", says(card("node-1", ".answer b")), before))
	after := b.read(says(card("node-1", ".answer b")))
	b.until(fmt.Sprintf("parseFloat(%s) > 3", says(card(victim, ".age b"))))
	if now := b.read(says(card(victim, ".answer b"))); now != before || !strings.Contains(now, "reports to Archivist") {
		t.Errorf("%s is cut off and answers %q, and before %q", victim, now, before)
	}

	// Rows: they change in a node that follows, before one's eyes, and not in the other.
	b.until("document.getElementById('table').options.length === 2")
	b.choose("table", "employees")
	b.choose("find", "410")
	salary := "document.querySelector('#rows tr[data-name=\"410\"] td:nth-child(4)')"
	for _, node := range []string{victim, "node-1"} {
		b.choose("node", node)
		b.until(fmt.Sprintf("JSON.parse(document.getElementById('rows').dataset.of ?? '[]')[0] === %q && %s?.innerText > 0", node, salary))
		had := b.read(salary + ".innerText")
		b.press("[data-do=raise]")
		b.until(says("#said") + ".includes('raise for everybody: ')")
		if node != victim {
			b.until(fmt.Sprintf("%s.innerText === String(%s + 1) && %s.classList.contains('flash')", salary, had, salary))
			continue
		}
		seen := b.read("document.getElementById('link').innerText")
		b.until(fmt.Sprintf("document.getElementById('link').innerText !== %q", seen))
		if now := b.read(salary + ".innerText"); now != had {
			t.Errorf("%s is cut off and shows the salary %s, and before %s", victim, now, had)
		}
	}
	b.choose("find", "no such key")
	b.until("document.querySelectorAll('#rows tr').length === 0 && " + says("#rows-note") + ".includes('0 of 0')")
	b.choose("find", "")
	b.until("document.querySelectorAll('#rows tr').length === 25")
	b.press("[data-do=burst]")
	b.until(says("#said") + ".includes('a burst: 1,000')")

	if *screenshots != "" && width > 1000 {
		b.until(fmt.Sprintf("parseFloat(%s) > 12", says(card(victim, ".age b")))) // for the picture's sake
		b.shoot("window-light.png", "light", width, height)
	}

	// It is healed, and replays.
	b.press(card(victim, "[data-do=heal]"))
	b.until(says("#said") + ".includes('has replayed')")
	b.until(says(card(victim, ".pill")) + " === 'live'")
	b.until(fmt.Sprintf("%s === %q", says(card(victim, ".answer b")), after))
	b.until(fmt.Sprintf("document.querySelector(%q).alt.includes('1 replay')", card(victim, "figure img")))
	b.until(says("#log") + ".includes('no table was loaded again')")
	if width > 1000 {
		b.shoot("window-dark.png", "dark", width, height)
	} else {
		b.shoot("window-narrow.png", "light", width, height)
	}
	b.quiet()
}

func TestTheDemosButtonsAskWhoSends(t *testing.T) {
	build(t)
	r := startDemo(t, temporary(t), "--duration", "3s", "--nodes", "1", "--once")
	r.until("look at it in a browser")
	s := &serving{url: strings.TrimSuffix(pageAddress.FindStringSubmatch(r.said.String())[1], "/")}
	for _, c := range []struct {
		name, method, path, header, value string
		want                              int
	}{
		{"a page elsewhere", "POST", "/window/do/raise", "Origin", "http://evil.example", 403},
		{"a page elsewhere that has our address", "POST", "/window/do/raise", "Host", "evil.example", 403},
		{"a browser that says where it comes from", "POST", "/window/do/cut?node=node-1", "Sec-Fetch-Site", "cross-site", 403},
		{"reading under another name", "GET", "/window/events", "Host", "evil.example", 403},
		{"no such button", "POST", "/window/do/explode", "", "", 404},
		{"no such node", "POST", "/window/do/cut?node=node-7", "", "", 409},
		{"a button that is read", "GET", "/window/do/raise", "", "", 405},
		{"the page", "GET", "/", "", "", 200},
	} {
		if status, body := s.ask(t, c.method, c.path, c.header, c.value); status != c.want {
			t.Errorf("%s: %d %q, want %d", c.name, status, body, c.want)
		}
	}
	r.limit.Reset(time.Minute)
	if status, said := r.end(); status != 0 || strings.Contains(said, "evil") {
		t.Errorf("exit status %d\n%s", status, said)
	}
}

// ask sends one request with one header, which may be Host.
func (s *serving) ask(t *testing.T, method, path, header, value string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header == "Host" {
		req.Host = value
	} else if header != "" {
		req.Header.Set(header, value)
	}
	status, body, _, _ = exchange(t, http.DefaultClient, req)
	return status, body
}

func TestAServedNodesPageInABrowser(t *testing.T) {
	chromium(t)
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key, name text); insert into a select i, 'row ' || i from generate_series(1, 100) i")
	token := write(t, "token", httpToken+"\n")
	s := startServe(t, db, nil, "--listen", "127.0.0.1:0", "--name", "first", "--token-file", token)
	other := startServe(t, db, nil, "--listen", "127.0.0.1:0", "--name", "second")
	s.limit.Reset(8 * time.Minute)
	other.limit.Reset(8 * time.Minute)

	// It asks for the token, and shows nothing without.
	b := openBrowser(t, 1280, 1000, s.url)
	b.until("!document.getElementById('login').hidden")
	if shown := b.read("document.querySelector('main').hidden + ' ' + document.getElementById('nodes').children.length"); shown != "true 0" {
		t.Errorf("shown without the token: %s", shown)
	}
	b.forget("401") // the browser tells of the answer that brought the question
	b.choose("token", httpToken)
	b.press("#login button")

	// Its own node, and from the register the other one.
	b.until(says("#facts") + ".includes('2 of 2')")
	b.until(says(card("first", ".age")) + ".includes('staleness') && " + says(card("second", ".age")) + ".includes('last beat')")
	b.until("document.querySelectorAll('#rows tr').length === 25")
	if note := b.read(says("#rows-note")); !strings.HasPrefix(note, "25 of 100 rows") {
		t.Errorf("the note on the rows: %q", note)
	}
	if buttons := b.read("document.querySelectorAll('[data-do]').length"); buttons != "0" {
		t.Errorf("a served node has %s buttons", buttons)
	}
	name := "document.querySelector('#rows tr[data-name=\"2\"] td:nth-child(2)')"
	db.Exec(t, "update a set name = '<b>two</b>' where id = 2")
	b.until(fmt.Sprintf("%s.innerText === '<b>two</b>' && %s.classList.contains('flash')", name, name))
	db.Exec(t, "delete from a where id = 1; insert into a values (0, null)")
	b.until("document.querySelector('#rows tr').dataset.name === '0' && document.querySelector('#rows td.null') !== null && document.querySelector('#rows tr[data-name=\"1\"]') === null")
	b.choose("find", "77")
	b.until("document.querySelectorAll('#rows tr').length === 1 && " + says("#rows") + ".includes('row 77')")
	b.quiet()
	for _, s := range []*serving{s, other} {
		if status := s.stop(t); status != 0 {
			t.Errorf("exit status %d\n%s", status, s.log)
		}
	}
}
