package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/pglockstep/lockstep/outbox/stream"
)

// natsFlags are the ways to connect to NATS.
type natsFlags struct {
	url, stream, creds, ca, cert, key string
}

func (n *natsFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.url, "nats", "", "NATS servers, nats://host:4222, with commas between; default: $LOCKSTEP_NATS (process lists show flags)")
	f.StringVar(&n.stream, "nats-stream", "lockstep", "name of the stream")
	f.StringVar(&n.creds, "nats-creds", "", "file with the user's credentials (JWT and seed)")
	f.StringVar(&n.ca, "nats-ca", "", "file with the certificates that the NATS servers' are checked against")
	f.StringVar(&n.cert, "nats-cert", "", "file with a client certificate, with --nats-key")
	f.StringVar(&n.key, "nats-key", "", "file with its key")
}

// options are the servers, whose passwords are kept for scrub, and what nats.Connect is told besides.
func (n *natsFlags) options() (servers string, options []nats.Option, err error) {
	servers = cmp.Or(n.url, os.Getenv("LOCKSTEP_NATS"))
	switch {
	case servers == "":
		return "", nil, errors.New("name a NATS server with --nats or $LOCKSTEP_NATS, such as nats://127.0.0.1:4222")
	case (n.cert == "") != (n.key == ""):
		return "", nil, errors.New("--nats-cert and --nats-key go together")
	case strings.ContainsAny(n.stream, " .*>\t/\\") || n.stream == "":
		return "", nil, fmt.Errorf("--nats-stream %q: a stream's name has no space, dot, slash, * or >", n.stream)
	}
	for s := range strings.SplitSeq(servers, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil {
			keepSecret(servers)
			return "", nil, errors.New("a NATS server's address cannot be read: want nats://user:password@host:4222")
		}
		if password, ok := u.User.Password(); ok {
			keepSecret(password)
		} else {
			keepSecret(u.User.Username()) // a token
		}
	}
	if n.creds != "" {
		options = append(options, nats.UserCredentials(n.creds))
	}
	if n.ca != "" {
		options = append(options, nats.RootCAs(n.ca))
	}
	if n.cert != "" {
		options = append(options, nats.ClientCert(n.cert, n.key))
	}
	return servers, options, nil
}

// sourceFlags choose what a node follows.
type sourceFlags struct {
	natsFlags
	source string
}

func (s *sourceFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.source, "source", "postgres", "postgres, or stream: what a relay publishes over NATS")
	completeWords(cmd, "source", "postgres", "stream")
	s.natsFlags.flags(cmd)
}

// feed is what a node follows besides Postgres; nil: nothing.
func (s *sourceFlags) feed(cmd *cobra.Command) (*stream.Source, error) {
	switch s.source {
	case "stream":
		servers, options, err := s.options()
		if err != nil {
			return nil, err
		}
		return &stream.Source{URL: servers, Options: options, Stream: s.stream}, nil
	case "postgres":
		for _, name := range []string{"nats", "nats-stream", "nats-creds", "nats-ca", "nats-cert", "nats-key"} {
			if cmd.Flags().Changed(name) {
				return nil, fmt.Errorf("--%s needs --source stream", name)
			}
		}
		return nil, nil
	}
	return nil, fmt.Errorf("--source %q: want postgres or stream", s.source)
}
