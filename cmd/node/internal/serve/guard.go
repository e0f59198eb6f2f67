package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard decides which requests are answered at all.
type guard struct {
	token  [sha256.Size]byte // of the token, so that comparing takes the same time whatever its length
	locked bool              // a token is asked for
	hosts  []string
	anyIP  bool
	cross  *http.CrossOriginProtection
}

func newGuard(o *Options) guard {
	g := guard{token: sha256.Sum256([]byte(o.Token)), locked: o.Token != "", anyIP: o.AnyIP, cross: http.NewCrossOriginProtection()}
	for _, name := range o.Hosts {
		g.hosts = append(g.hosts, hostOf(name))
	}
	return g
}

// admit answers what is not let in, and reports whether the request is.
//
// A page of somebody else's that a browser on this machine shows can send
// requests to loopback. It is told from a client of ours by its Origin, or by
// Sec-Fetch-Site, unless its own name has been made to resolve to this
// machine: then the Host is that name. Reading needs the second check only:
// browsers keep answers from foreign pages. With a token it needs neither.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) bool {
	g, writes := &h.guard, r.Method != http.MethodGet && r.Method != http.MethodHead
	switch {
	case probe(r) && !writes:
		return true
	case (writes || !g.locked) && !g.knows(r.Host):
		h.fail(w, foreign, "the request is for host %q, which is not this node's: allow it with --allow-host if it is", r.Host)
	case writes && g.cross.Check(r) != nil:
		h.fail(w, foreign, "a page of another site has sent the request (Origin %q, Sec-Fetch-Site %q)", r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site"))
	case !g.trusts(r) && (writes || h.Static == nil || !h.Static(r.URL.EscapedPath())):
		w.Header().Set("WWW-Authenticate", `Bearer realm="lockstep"`)
		h.fail(w, unauthorized, "send the node's token: Authorization: Bearer ...")
	default:
		return true
	}
	return false
}

// probe is what load balancers ask, who have no token and any Host. It is
// answered in a word, and with the reasons for those who have the token.
func probe(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }

// trusts reports whether a request may know what the node knows.
func (g *guard) trusts(r *http.Request) bool {
	if !g.locked {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// knows reports whether a Host is this node's own. The port does not count: it
// is another one behind a tunnel, and a foreign page cannot have our name.
func (g *guard) knows(hostport string) bool {
	host := hostOf(hostport)
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsLoopback() || g.anyIP) {
		return true
	}
	return host == "localhost" || host != "" && slices.Contains(g.hosts, host)
}

// hostOf is the host of host, host:port, [v6] or [v6]:port, as it is compared.
func hostOf(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
		if inner, ok := strings.CutPrefix(hostport, "["); ok && strings.HasSuffix(inner, "]") {
			host = inner[:len(inner)-1]
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return host
}
