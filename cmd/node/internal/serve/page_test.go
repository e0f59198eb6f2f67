package serve_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

// Whoever may not read the node gets the page's own files, and nothing behind them.
func TestThePageIsBehindTheGuard(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the page") })
	static := func(path string) bool { return path == "/" }
	const token = "0123456789abcdef-geheim"
	for _, c := range []struct {
		name         string
		locked       bool
		method, path string
		header       []string
		want         int
	}{
		{"its file", true, "GET", "/", nil, 200},
		{"its file, changed", true, "POST", "/", nil, 401},
		{"what it shows", true, "GET", "/window/events", nil, 401},
		{"what it shows, by another spelling", true, "GET", "/window/../", nil, 401},
		{"with the token", true, "GET", "/window/events", []string{"Authorization: Bearer " + token}, 200},
		{"a button", true, "POST", "/window/do/x", nil, 401},
		{"a button with the token", true, "POST", "/window/do/x", []string{"Authorization: Bearer " + token}, 200},
		{"a button, from elsewhere, with the token", true, "POST", "/window/do/x", []string{"Authorization: Bearer " + token, "Origin: http://evil.example"}, 403},
		{"without a token", false, "GET", "/window/events", nil, 200},
		{"without a token, a button", false, "POST", "/window/do/x", nil, 200},
		{"without a token, from elsewhere", false, "POST", "/window/do/x", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"without a token, another host", false, "GET", "/", []string{"Host: evil.example"}, 403},
		{"what is not the page's", false, "GET", "/windows", nil, 404},
	} {
		o := serve.Options{Page: page, Static: static}
		if c.locked {
			o.Token = token
		}
		server := httptest.NewServer(serve.New(serve.Declare(nil), o))
		s := &site{t: t, server: server}
		if a := s.send(c.method, c.path, "", c.header...); a.status != c.want {
			t.Errorf("%s: %d %q, want %d", c.name, a.status, a.body, c.want)
		}
		server.Close()
	}
}
