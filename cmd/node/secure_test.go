package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pglockstep/lockstep/internal/pgtest"
)

const httpToken = "geheim-0123456789abcdef"

// write makes a file of the test's own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate makes one for 127.0.0.1, and a pool that trusts it.
func certificate(t *testing.T) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(text)
	return write(t, "cert.pem", string(text)), write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))), trust
}

func TestNobodyIsServedOnAnOpenAddressWithoutAToken(t *testing.T) {
	build(t)
	cert, key, _ := certificate(t)
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"all addresses", nil, []string{"--listen", ":0"}, "not loopback"},
		{"all v4 addresses", nil, []string{"--listen", "0.0.0.0:0"}, "not loopback"},
		{"all v6 addresses", nil, []string{"--listen", "[::]:0"}, "not loopback"},
		{"an address of a network", nil, []string{"--listen", "192.0.2.1:80"}, "not loopback"},
		{"TLS alone", nil, []string{"--listen", ":0", "--tls-cert", cert, "--tls-key", key}, "not loopback"},
		{"an empty token", []string{tokenVar + "="}, []string{"--listen", ":0"}, "--token-file"},
		{"a short token", []string{tokenVar + "=geheim"}, nil, "needs 16 at least"},
		{"an empty token file", nil, []string{"--token-file", write(t, "token", "\n")}, "has 0 characters"},
		{"a token of two lines", nil, []string{"--token-file", write(t, "token", httpToken+"\n"+httpToken)}, "white space"},
		{"no token file", nil, []string{"--token-file", "/nowhere/token"}, "no such file"},
		{"two tokens", []string{tokenVar + "=" + httpToken}, []string{"--token-file", write(t, "token", httpToken)}, "give one"},
		{"a certificate without its key", nil, []string{"--tls-cert", cert}, "go together"},
		{"a key without its certificate", nil, []string{"--tls-key", key}, "go together"},
		{"a certificate that is none", nil, []string{"--tls-cert", key, "--tls-key", cert}, "--tls-cert"},
		{"no window", nil, []string{"--window", "0"}, "above 0"},
		{"no address", nil, []string{"--listen", "127.0.0.1"}, "want host:port"},
	} {
		// Nothing is asked of Postgres before this is right: there is none.
		env := append([]string{"LOCKSTEP_DSN=postgres://u@127.0.0.1:1/x"}, c.env...)
		out, errs, status := runCommand(t, env, append([]string{"serve", "--table", "public.a"}, c.args...)...)
		if status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) || strings.Contains(out+errs, "geheim") {
			t.Errorf("%s: status %d, %q, want one line with %q", c.name, status, errs, c.want)
		}
	}
}

func TestLoopbackNeedsNoToken(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "127.1.2.3:0", "localhost:0", "[::1]:0"} {
		if _, err := (&access{listen: listen}).read(); err != nil {
			t.Error(err)
		}
	}
}

func TestHelpShowsNoSecretOfTheEnvironment(t *testing.T) {
	build(t)
	out, errs, status := runCommand(t, []string{tokenVar + "=" + httpToken, "LOCKSTEP_DSN=postgres://u:geheim@x/y"}, "serve", "--help")
	if status != 0 || strings.Contains(out+errs, "geheim") {
		t.Errorf("%d %s %s", status, out, errs)
	}
}

// serving is the command as it runs.
type serving struct {
	cmd *exec.Cmd
	url string
	log *strings.Builder
	out *bufio.Reader

	limit *time.Timer // kills it
}

// startServe starts the command on a table that it captures, and waits until it serves.
func startServe(t *testing.T, db *pgtest.DB, env []string, args ...string) *serving {
	t.Helper()
	env = append(env, "LOCKSTEP_DSN="+db.DSN())
	if _, errs, status := runCommand(t, env, "install", "--table", "public.a"); status != 0 {
		t.Fatal(errs)
	}
	s := &serving{cmd: exec.Command(binary, append([]string{"serve", "--table", "public.a"}, args...)...), log: new(strings.Builder)}
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stderr = s.log
	pipe, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.limit = time.AfterFunc(time.Minute, func() { _ = s.cmd.Process.Kill() })
	t.Cleanup(func() {
		s.limit.Stop()
		_ = s.cmd.Process.Kill() // or it has ended
		_ = s.cmd.Wait()
	})
	s.out = bufio.NewReader(pipe)
	said, err := s.out.ReadString('\n')
	if err != nil {
		_ = s.cmd.Wait() // the log says why
		t.Fatalf("%v\n%s", err, s.log)
	}
	_, s.url, _ = strings.Cut(strings.TrimSpace(said), " on ")
	return s
}

// stop asks it to end, and returns its exit status.
func (s *serving) stop(t *testing.T) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, s.out) // up to its end
	_ = s.cmd.Wait()                  // the status says it
	return s.cmd.ProcessState.ExitCode()
}

func TestAServedNodeSpeaksTLSAndAsksForItsToken(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key); insert into a values (7)")
	cert, key, trust := certificate(t)
	s := startServe(t, db, nil, "--listen", "127.0.0.1:0", "--token-file", write(t, "token", httpToken+"\n"), "--tls-cert", cert, "--tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}, ForceAttemptHTTP2: true}}
	get := func(token string) (int, string, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/tables/public.a/rows/7", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		status, body, _, proto := exchange(t, client, req)
		return status, body, proto
	}
	if status, body, proto := get(httpToken); status != 200 || body != "{\"id\":7}\n" || proto != "HTTP/2.0" || !strings.HasPrefix(s.url, "https://") {
		t.Errorf("%s: %s %d %q", s.url, proto, status, body)
	}
	if status, _, _ := get("another-0123456789abcdef"); status != 401 {
		t.Errorf("another token: %d", status)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/changes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+httpToken)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stream := bufio.NewScanner(res.Body)
	for stream.Scan() && stream.Text() != "event: live" { // before anything else happens
	}
	if stream.Text() != "event: live" || res.Proto != "HTTP/2.0" {
		t.Errorf("a stream over %s: %q %v", res.Proto, stream.Text(), stream.Err())
	}
	_ = res.Body.Close()
	client.CloseIdleConnections()
	if status := s.stop(t); status != 0 || strings.Contains(s.log.String(), "geheim") {
		t.Errorf("exit status %d, log %s", status, s.log)
	}
}

func TestAnOpenAddressWithoutTLSIsWarnedOf(t *testing.T) {
	build(t)
	db := pgtest.New(t)
	db.Exec(t, "create table a (id int primary key)")
	s := startServe(t, db, []string{tokenVar + "=" + httpToken}, "--listen", "0.0.0.0:0")
	if status := s.stop(t); status != 0 || !strings.Contains(s.log.String(), "serving without TLS") || strings.Contains(s.log.String(), "geheim") {
		t.Errorf("exit status %d, log %s", status, s.log)
	}
}
