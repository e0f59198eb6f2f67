//go:build unix

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/internal/pgtest"
)

// certificate is one of the server's own making, for 127.0.0.1, as PEM.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "a test's server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// onlyTLS makes the cluster refuse whoever comes without, and returns the
// certificate's file.
func onlyTLS(t *testing.T, c *pgtest.Cluster, db *pgtest.DB) (root string) {
	t.Helper()
	cert, key := certificate(t)
	c.Give(t, "server.crt", cert)
	c.Give(t, "server.key", key)
	root = filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(root, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Give(t, "pg_hba.conf", []byte("hostssl all all 127.0.0.1/32 scram-sha-256\n"))
	conn := db.Conn(t)
	for _, sql := range []string{"alter system set ssl = on", "select pg_reload_conf()"} {
		if _, err := conn.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the server speaks TLS", func() bool {
		conn, err := pgx.Connect(deadline(t), verified(db, root))
		return err == nil && conn.Close(deadline(t)) == nil
	})
	return root
}

// verified is the database's address for those who check the server's certificate.
func verified(db *pgtest.DB, root string) string {
	return strings.Replace(db.DSN(), "sslmode=disable", "sslmode=verify-full&sslrootcert="+root, 1)
}

// Both of a node's connections are made as its pool's would be.
func TestANodeSpeaksTLSWhereItsPoolDoes(t *testing.T) {
	c := own(t)
	db := c.New(t)
	items(t, db)
	root := onlyTLS(t, c, db)
	by := func(root string) func(*pgxpool.Config) {
		return func(p *pgxpool.Config) {
			tls, err := pgx.ParseConfig(verified(db, root))
			if err != nil {
				t.Fatal(err)
			}
			p.ConnConfig = tls
		}
	}
	pool := db.Pool(t, by(root))
	node, table := start(t, pool)
	if _, err := table.Put(deadline(t), item{1, 5}); err != nil {
		t.Fatal(err)
	}
	barrier(t, node)
	rows, _ := pool.Query(deadline(t), `select a.application_name from pg_stat_activity a join pg_stat_ssl s using (pid)
		where a.datname = current_database() and a.backend_type = 'client backend' and s.ssl`) // CollectRows has its error
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if got := strings.Join(names, " "); err != nil || !strings.Contains(got, "lockstep fetch") || !strings.Contains(got, "lockstep bell") {
		t.Errorf("by TLS there are %q (%v)", got, err)
	}

	other := filepath.Join(t.TempDir(), "other.crt")
	cert, _ := certificate(t)
	if err := os.WriteFile(other, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*pgxpool.Config){
		"certificate": by(other),
		"pg_hba.conf": func(p *pgxpool.Config) { p.ConnConfig.TLSConfig, p.ConnConfig.Fallbacks = nil, nil },
	} {
		_, err := lockstep.Start(deadline(t), db.Pool(t, change), lockstep.Config{Logger: silent}, itemTable())
		if err == nil || !strings.Contains(err.Error(), what) || strings.Contains(strings.TrimSpace(err.Error()), "\n") {
			t.Errorf("without the right %s Start said %v", what, err)
		}
	}
}
