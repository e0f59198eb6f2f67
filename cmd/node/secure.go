package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/cmd/node/internal/serve"
)

// tokenVar is the environment variable that holds the bearer token.
const tokenVar = "LOCKSTEP_HTTP_TOKEN"

// access is who may reach a served node, and how.
type access struct {
	listen            string
	tokenFile         string
	certFile, keyFile string
	hosts             []string
}

func (a *access) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.listen, "listen", "127.0.0.1:8080", "address to serve on; one that is not loopback needs a token")
	f.StringVar(&a.tokenFile, "token-file", "", "file with the bearer token that clients must send; default: $"+tokenVar)
	f.StringVar(&a.certFile, "tls-cert", "", "file with the certificate, in PEM; serves HTTPS")
	f.StringVar(&a.keyFile, "tls-key", "", "file with its private key, in PEM")
	f.StringArrayVar(&a.hosts, "allow-host", nil, "a name under which clients know this node, besides localhost and the address of --listen; may be given again")
}

// entrance is what access leads to, once it has been read.
type entrance struct {
	token string
	tls   *tls.Config // nil: plain HTTP
	addr  *net.TCPAddr
	hosts []string
}

// read checks everything that can be wrong before anything is asked of Postgres.
func (a *access) read() (*entrance, error) {
	addr, err := net.ResolveTCPAddr("tcp", a.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w (want host:port)", a.listen, err)
	}
	token, err := readToken(a.tokenFile, os.Getenv(tokenVar))
	if err != nil {
		return nil, err
	}
	if !addr.IP.IsLoopback() && token == "" {
		return nil, fmt.Errorf("--listen %s is not loopback, so clients must show a token: put one into a file and name it with --token-file, or set $%s", a.listen, tokenVar)
	}
	e := &entrance{token: token, addr: addr, hosts: a.hosts}
	if host, _, err := net.SplitHostPort(a.listen); err == nil && !e.everywhere() {
		e.hosts = append(e.hosts, host, addr.IP.String())
	}
	if a.certFile == "" && a.keyFile == "" {
		return e, nil
	}
	if a.certFile == "" || a.keyFile == "" {
		return nil, errors.New("--tls-cert and --tls-key go together")
	}
	pair, err := tls.LoadX509KeyPair(a.certFile, a.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	e.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return e, nil
}

// everywhere reports whether the node listens on all addresses.
func (e *entrance) everywhere() bool { return e.addr.IP == nil || e.addr.IP.IsUnspecified() }

// admit fills in what of the handler's options the entrance decides.
func (e *entrance) admit(o *serve.Options) {
	o.Token, o.Hosts, o.AnyIP, o.Scrub = e.token, e.hosts, e.everywhere(), scrub
}

// open listens on the address that was judged: a name may resolve to another by now.
func (e *entrance) open(log *slog.Logger) (net.Listener, error) {
	l, err := net.ListenTCP("tcp", e.addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w (choose another address with --listen)", e.addr, err)
	}
	if !e.addr.IP.IsLoopback() && e.tls == nil {
		log.Warn("serving without TLS: who can read the network can read the token and the rows; give --tls-cert and --tls-key, or put a proxy with TLS in front", "listen", e.addr.String())
	}
	return l, nil
}

func (e *entrance) url(l net.Listener) string {
	if e.tls != nil {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// minToken is the shortest token: what is shorter can be guessed.
const minToken = 16

// readToken takes the token from its file or the environment, and keeps it out
// of everything that is printed.
func readToken(file, env string) (string, error) {
	token, from := env, "$"+tokenVar
	if file != "" {
		if env != "" {
			return "", fmt.Errorf("both --token-file and $%s give a token: give one", tokenVar)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		token, from = strings.TrimSpace(string(b)), "--token-file "+file
	} else if env == "" {
		return "", nil
	}
	if len(token) < minToken {
		return "", fmt.Errorf("the token of %s has %d characters, and needs %d at least: openssl rand -hex 32 makes one", from, len(token), minToken)
	}
	keepSecret(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("the token of %s has white space or characters that are not ASCII in it, which no header can carry", from)
	}
	return token, nil
}
