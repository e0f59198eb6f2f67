package serve_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

const secret = "0123456789abcdef-the-token"

// asked is a request to a handler without a node: what is let in is answered
// 503 (loading), 404 or, for /healthz, 200.
func asked(o serve.Options, method, target string, header ...string) answer {
	return ask(serve.New(serve.Declare(nil), o), method, target, header...)
}

// ask asks a handler without a socket.
func ask(h http.Handler, method, target string, header ...string) answer {
	r := httptest.NewRequest(method, target, strings.NewReader("{}"))
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Add(name, value); name == "Host" {
			r.Host = value
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String(), w.Header()}
}

func TestWithATokenNothingButTheProbesIsAnsweredWithoutIt(t *testing.T) {
	o := serve.Options{Token: secret}
	for _, path := range []string{"/v1/status", "/v1/tables/a/rows", "/v1/tables/a/rows/1", "/v1/changes", "/metrics", "/", "/nowhere", "/%68ealthz", "/healthz/"} {
		for _, header := range [][]string{
			nil, {"Authorization: " + secret}, {"Authorization: Basic " + secret}, {"Authorization: Bearer"}, {"Authorization: Bearer "},
			{"Authorization: Bearer " + secret[1:]}, {"Authorization: Bearer " + secret + "x"}, {"Authorization: Bearer " + strings.ToUpper(secret)},
			{"Cookie: token=" + secret},
		} {
			a := asked(o, http.MethodGet, "http://localhost"+path, header...)
			if path == "/%68ealthz" && a.status == http.StatusNotFound {
				continue // nothing is there, and nobody is asked
			}
			a.wantProblem(t, http.StatusUnauthorized, "unauthorized")
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") || strings.Contains(a.body, secret) {
				t.Errorf("%s %v: %v %s", path, header, a.header, a.body)
			}
		}
		for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
			if a := asked(o, http.MethodGet, "http://localhost"+path, "Authorization: "+scheme+secret); a.status != http.StatusServiceUnavailable && a.status != http.StatusNotFound && path != "/metrics" {
				t.Errorf("%s with the token: %d", path, a.status)
			}
		}
	}
	if a := asked(o, http.MethodGet, "http://10.0.0.7/healthz"); a.status != http.StatusOK {
		t.Errorf("a probe got %d", a.status)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPost} {
		asked(o, method, "http://localhost/healthz").wantProblem(t, http.StatusUnauthorized, "unauthorized")
	}
}

func TestReadyzTellsStrangersNoReason(t *testing.T) {
	s := served(t, serve.Options{Token: secret, MaxStale: time.Nanosecond}, "create table a (id int primary key)", "public.a")
	if detail := s.send(http.MethodGet, "/readyz", "").wantProblem(t, http.StatusServiceUnavailable, "unavailable"); detail != "stale" {
		t.Errorf("a stranger is told %q", detail)
	}
	if detail := s.send(http.MethodGet, "/readyz", "", "Authorization: Bearer "+secret).wantProblem(t, http.StatusServiceUnavailable, "unavailable"); !strings.HasPrefix(detail, "stale for ") {
		t.Errorf("who has the token is told %q", detail)
	}
}

// A page of another site, shown by a browser on this machine, can reach
// loopback: by its own requests, or under a name of its own that it makes
// resolve to 127.0.0.1.
func TestForeignHostsAndForeignPagesAreRefused(t *testing.T) {
	const in = http.StatusServiceUnavailable // it loads
	open := serve.Options{Hosts: []string{"db.internal", "10.1.2.3", "2001:DB8::1"}}
	locked, wide := open, open
	locked.Token, wide.AnyIP, wide.Token = secret, true, secret
	for _, c := range []struct {
		name           string
		o              serve.Options
		host           string
		header         string
		reads, changes int
	}{
		{"loopback", open, "127.0.0.1:8080", "", in, in},
		{"all of loopback", open, "127.8.9.1", "", in, in},
		{"loopback v6", open, "[::1]:8080", "", in, in},
		{"v4 in v6", open, "[::ffff:127.0.0.1]:8080", "", in, in},
		{"localhost through a tunnel", open, "LocalHost.:9999", "", in, in},
		{"an allowed name", open, "DB.internal:8080", "", in, in},
		{"an allowed address", open, "10.1.2.3:8080", "", in, in},
		{"an allowed v6 address", open, "[2001:db8:0::1]:8080", "", in, in},
		{"a rebound name", open, "evil.example:8080", "", 403, 403},
		{"a name below", open, "localhost.evil.example", "", 403, 403},
		{"a name above", open, "x.db.internal", "", 403, 403},
		{"another address", open, "10.1.2.4:8080", "", 403, 403},
		{"no name", open, "", "", 403, 403},
		{"nonsense", open, "[::1", "", 403, 403},
		{"a rebound name with the token", locked, "evil.example", "", in, 403},
		{"an address on all addresses", wide, "10.1.2.4:8080", "", in, in},
		{"a name on all addresses", wide, "evil.example:8080", "", in, 403},
		{"our own page", open, "127.0.0.1:8080", "Origin: http://127.0.0.1:8080", in, in},
		{"our own page, as browsers say it", open, "127.0.0.1:8080", "Sec-Fetch-Site: same-origin", in, in},
		{"the address bar", open, "127.0.0.1:8080", "Sec-Fetch-Site: none", in, in},
		{"another site", open, "127.0.0.1:8080", "Origin: https://evil.example", in, 403},
		{"another site, as browsers say it", open, "127.0.0.1:8080", "Sec-Fetch-Site: cross-site", in, 403},
		{"another port", open, "127.0.0.1:8080", "Origin: http://127.0.0.1:3000", in, 403},
		{"another service of the same site", open, "127.0.0.1:8080", "Sec-Fetch-Site: same-site", in, 403},
		{"a page without an origin", open, "127.0.0.1:8080", "Origin: null", in, 403},
		{"another site with the token", locked, "127.0.0.1:8080", "Origin: https://evil.example", in, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := []string{"Host: " + c.host, "Authorization: Bearer " + secret}
			if c.header != "" {
				header = append(header, c.header)
			}
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodPost, http.MethodPatch} {
				want := c.changes
				if method == http.MethodGet || method == http.MethodHead {
					want = c.reads
				}
				a := asked(c.o, method, "/v1/tables/a/rows/1", header...)
				if a.status != want {
					t.Errorf("%s: %d %s, want %d", method, a.status, a.body, want)
				}
				if want == http.StatusForbidden {
					a.wantProblem(t, want, "foreign")
				}
			}
		})
	}
}

func TestAnswersAreNotKeptNorGuessedAt(t *testing.T) {
	for _, path := range []string{"/healthz", "/v1/status", "/nowhere"} {
		h := asked(serve.Options{}, http.MethodGet, "http://localhost"+path).header
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestOtherMethodsAreNotAllowedAndSaySo(t *testing.T) {
	for _, path := range []string{"/v1/status", "/healthz", "/readyz"} {
		a := asked(serve.Options{}, http.MethodPost, "http://localhost"+path)
		a.wantProblem(t, http.StatusMethodNotAllowed, "not-allowed")
		if a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
}

func TestWhatAnErrorSaysIsScrubbed(t *testing.T) {
	o := serve.Options{Scrub: func(s string) string { return strings.ReplaceAll(s, "geheim", "****") }}
	if a := asked(o, http.MethodGet, "http://localhost/geheim"); strings.Contains(a.body, "geheim") || !strings.Contains(a.body, "****") {
		t.Errorf("%s", a.body)
	}
}
