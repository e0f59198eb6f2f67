package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/stored"
	"github.com/pglockstep/lockstep/outbox"
)

// verifyRange is how many rows are in memory at a time.
const verifyRange = 500

// errDiffers is the exit status of verify; the rows have been printed.
var errDiffers = exitError{2, errors.New("the node and Postgres differ: see above")}

const verifyLong = `verify holds the tables of a served node against Postgres, row by row in the order of the key.

The node makes a cut in a snapshot that it exports, and verify reads Postgres in that same
snapshot: what is written meanwhile makes no difference. It keeps 500 rows in memory. Until it
ends the tables cannot be altered or emptied, as with pg_dump. With --repair the node loads
each table that differs again, and it is compared once more.

With --checkpoint it does the same with the checkpoint of a node that is not running: it reads the file, applies in memory what was
missed, and writes nothing. It takes the memory that the checkpoint's rows take. Tables that the checkpoint does not hold are not compared,
nor are those whose rows are read by code of the application's own; each is named. A value counts as the same where it
is, however it was encoded; a column that the application keeps a part of only (a JSON document in a struct with fewer
members, say) differs.

Exit status: 0 all is the same (with --repair: by now), 2 rows differ, 1 it could not be found out.`

func verifyCommand(o *options) *cobra.Command {
	var address, tokenFile, dir, node string
	var tables []string
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Hold a served node, or a checkpoint, against Postgres, row by row, at one instant of both",
		Long:  verifyLong,
		Example: `  lockstep verify --url http://127.0.0.1:8080
  lockstep verify --url http://127.0.0.1:8080 --table public.employees --repair
  lockstep verify --checkpoint /var/lib/web-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir != "" {
				if address != "" || tokenFile != "" || repair {
					return errors.New("--checkpoint goes with --node and --table only")
				}
				pool, err := o.connect(cmd.Context())
				if err != nil {
					return err
				}
				defer pool.Close()
				return verifyCheckpoint(cmd.Context(), pool, o.schema, cmd.OutOrStdout(), dir, node, tables)
			}
			if node != "" {
				return errors.New("--node needs a --checkpoint")
			}
			c, err := newNodeClient(address, tokenFile)
			if err != nil {
				return err
			}
			pool, err := o.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer pool.Close()
			v := &verifier{client: c, pool: pool, schema: o.schema, out: cmd.OutOrStdout()}
			differ, err := v.run(cmd.Context(), tables)
			if err != nil || len(differ) == 0 {
				return err
			}
			if !repair {
				return errDiffers
			}
			for _, t := range differ {
				if err := c.call(cmd.Context(), http.MethodPost, "/v1/tables/"+url.PathEscape(t)+"/reload", nil, nil); err != nil {
					return fmt.Errorf("the node could not load table %s again: %w", t, err)
				}
				fmt.Fprintf(v.out, "%s: the node has loaded it again\n", t)
			}
			if differ, err = v.run(cmd.Context(), differ); err == nil && len(differ) > 0 {
				err = errDiffers
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&address, "url", "", "address of the served node, such as http://127.0.0.1:8080")
	f.StringVar(&tokenFile, "token-file", "", "file with the node's bearer token; default: $"+tokenVar)
	f.StringVar(&dir, "checkpoint", "", "directory with the checkpoint to compare instead")
	f.StringVar(&node, "node", "", "whose checkpoint, where the directory has several")
	f.StringArrayVar(&tables, "table", nil, "table as SQL writes it; may be given again; default: all that the node serves, or the checkpoint holds")
	f.BoolVar(&repair, "repair", false, "make the node load the tables that differ again")
	return cmd
}

// nodeClient asks a served node.
type nodeClient struct {
	base, token string
	http        *http.Client
}

func newNodeClient(address, tokenFile string) (*nodeClient, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("verify needs the --url of a served node, such as http://127.0.0.1:8080, or a --checkpoint")
	}
	token, err := readToken(tokenFile, os.Getenv(tokenVar))
	if err != nil {
		return nil, err
	}
	return &nodeClient{base: u.Scheme + "://" + u.Host, token: token, http: &http.Client{
		// A redirect would send the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call sends a request with a JSON body and gives the answer to read, where it is a good one.
func (c *nodeClient) call(ctx context.Context, method, path string, body any, read func(io.Reader) error) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.base, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		var unknown x509.UnknownAuthorityError
		var name x509.HostnameError
		if errors.As(err, &unknown) || errors.As(err, &name) {
			return fmt.Errorf("the certificate of the node at %s is not trusted (SSL_CERT_FILE names a file with its authority's; the address must have a name that it has): %w", c.base, err)
		}
		return fmt.Errorf("no node answers at %s: %w", c.base, err)
	}
	defer func() { _ = res.Body.Close() }() // it was read
	if res.StatusCode/100 != 2 {
		var problem struct{ Detail string }
		_ = json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&problem) // else it says nothing
		return fmt.Errorf("the node at %s answers %s: %s", c.base, res.Status, problem.Detail)
	}
	if read == nil {
		return nil
	}
	return read(res.Body)
}

// verifier compares the tables of a node with Postgres.
type verifier struct {
	client *nodeClient
	pool   *pgxpool.Pool
	schema string
	out    io.Writer

	id   string              // of the node's cut
	keys map[string][]string // key columns by table
}

type heldTable struct {
	Table string `json:"table"`
	Rows  int    `json:"rows"`
}

// run compares tables at one instant, all that are served where none is named,
// and returns those that differ.
func (v *verifier) run(ctx context.Context, tables []string) (differ []string, err error) {
	var cut struct {
		ID       string          `json:"id"`
		Position outbox.Position `json:"position"`
		Name     string          `json:"snapshot_name"`
		Tables   []heldTable     `json:"tables"`
	}
	err = v.client.call(ctx, http.MethodPost, "/v1/cuts", map[string][]string{"tables": tables}, func(r io.Reader) error { return json.NewDecoder(r).Decode(&cut) })
	if err != nil {
		return nil, err
	}
	v.id = cut.ID
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = v.client.call(ending, http.MethodDelete, "/v1/cuts/"+v.id, nil, nil) // it ends by itself, too
	}()
	session, reading, err := v.read(ctx, cut.Name, cut.Tables)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	fmt.Fprintf(v.out, "position %s\n", cut.Position)
	for i, t := range cut.Tables {
		n, wrong, err := v.table(ctx, reading, i, t)
		if err != nil {
			return differ, err
		}
		fmt.Fprintf(v.out, "%s: %d rows in Postgres, %d in the node, %d wrong\n", t.Table, n, t.Rows, wrong)
		if wrong > 0 {
			differ = append(differ, t.Table)
		}
	}
	return differ, nil
}

// read begins to read the tables in the node's snapshot.
func (v *verifier) read(ctx context.Context, snapshot string, tables []heldTable) (*outbox.Session, *outbox.Reading, error) {
	cfg := outbox.Config{Schema: v.schema, Pool: v.pool, Bell: outbox.BellPoll}
	v.keys = make(map[string][]string)
	all := make([]int, len(tables))
	for i, t := range tables {
		all[i] = i
		cfg.Tables = append(cfg.Tables, outbox.TableSpec{Name: t.Table, Document: true, Columns: func(have []outbox.ColumnInfo) ([]string, error) {
			v.keys[t.Table] = stored.Names(outbox.KeyColumns(have))
			return stored.Names(have), nil
		}})
	}
	src, err := outbox.NewSource(cfg)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // said as it is
	}
	session, err := src.Open(ctx)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // said as it is
	}
	reading, err := session.Read(ctx, snapshot, all...)
	if err != nil {
		err = fmt.Errorf("the node's snapshot cannot be read here (does the node follow this database?): %w", err)
	}
	for i := range tables {
		if err == nil {
			err = reading.Problem(i)
		}
	}
	if err != nil {
		session.Close()
		return nil, nil, err
	}
	return session, reading, nil
}

// table compares one table and prints what differs.
func (v *verifier) table(ctx context.Context, reading *outbox.Reading, i int, t heldTable) (rows, wrong int, err error) {
	var after []string
	both := 0
	for n := verifyRange; n == verifyRange; {
		var keys []json.RawMessage
		var docs [][]byte
		after, n, err = reading.Range(ctx, i, after, verifyRange, func(row pgx.CollectableRow) error {
			doc := bytes.Clone(row.RawValues()[0])
			key, err := stored.DocumentKey(doc, v.keys[t.Table])
			keys, docs = append(keys, json.RawMessage(key)), append(docs, doc)
			return err
		})
		if err != nil {
			return rows, wrong, err //nolint:wrapcheck // named there
		}
		rows += n
		if n == 0 {
			break
		}
		place := 0
		err = v.client.call(ctx, http.MethodPost, v.path(t.Table, "rows"), keys, func(r io.Reader) error {
			lines := bufio.NewReaderSize(r, 1<<16)
			for ; place < len(keys); place++ {
				line, err := lines.ReadBytes('\n')
				if err != nil {
					return fmt.Errorf("the node's answer ends early: %w", err)
				}
				what := judge(bytes.TrimSuffix(line, []byte("\n")), docs[place])
				if what != lockstep.WrongMissing {
					both++
				}
				if what != "" {
					wrong++
					v.say(t.Table, string(keys[place]), what)
				}
			}
			return nil
		})
		if err != nil {
			return rows, wrong, err
		}
	}
	if both == t.Rows {
		return rows, wrong, nil // every row of the node's has been met
	}
	extra, err := v.extra(ctx, reading, i, t)
	return rows, wrong + extra, err
}

func (v *verifier) path(table, what string) string {
	return "/v1/cuts/" + v.id + "/tables/" + url.PathEscape(table) + "/" + what
}

func (v *verifier) say(table, key string, wrong lockstep.Wrong) {
	fmt.Fprintf(v.out, "%s %s: %s\n", table, key, map[lockstep.Wrong]string{
		lockstep.WrongMissing: "the node does not have it", lockstep.WrongExtra: "Postgres does not have it", lockstep.WrongRow: "the rows differ",
	}[wrong])
}

// judge compares the node's line with Postgres' document.
func judge(line, doc []byte) lockstep.Wrong {
	var want bytes.Buffer
	if err := json.Compact(&want, doc); err != nil {
		want.Reset()
		want.Write(doc)
	}
	switch {
	case string(line) == "null":
		return lockstep.WrongMissing
	case !bytes.Equal(line, want.Bytes()):
		return lockstep.WrongRow
	}
	return ""
}

// extra asks Postgres for every key of the node's and prints those that it does not have.
func (v *verifier) extra(ctx context.Context, reading *outbox.Reading, i int, t heldTable) (wrong int, err error) {
	var keys, objects []string
	ask := func() error {
		held, err := reading.Holds(ctx, i, objects)
		if err != nil {
			return err //nolint:wrapcheck // named there
		}
		for n, ok := range held {
			if !ok {
				wrong++
				v.say(t.Table, keys[n], lockstep.WrongExtra)
			}
		}
		keys, objects = keys[:0], objects[:0]
		return nil
	}
	err = v.client.call(ctx, http.MethodGet, v.path(t.Table, "keys"), nil, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<26)
		for lines.Scan() {
			object, err := keyObject(lines.Text(), v.keys[t.Table])
			if err != nil {
				return err
			}
			if keys, objects = append(keys, lines.Text()), append(objects, object); len(keys) == verifyRange {
				if err := ask(); err != nil {
					return err
				}
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("the node's keys: %w", err)
		}
		return ask()
	})
	return wrong, err
}

// keyObject is a node's key as a JSON object of the key columns.
func keyObject(key string, columns []string) (string, error) {
	members, err := outbox.KeyMembers(columns, key)
	if err != nil {
		return "", fmt.Errorf("the node has a key %s, and the primary key has %d columns", key, len(columns))
	}
	b, err := json.Marshal(members)
	if err != nil {
		return "", fmt.Errorf("the node's key %s: %w", key, err)
	}
	return string(b), nil
}
