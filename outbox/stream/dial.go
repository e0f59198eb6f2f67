package stream

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// connection is how a relay's and a node's connection to NATS behave. A server that has gone without a word
// is found out within three seconds, and nothing that is written blocks for longer.
// What goes wrong beside what is asked for, a missing permission above all, is a warning; the same again on one
// connection is not.
func connection(name string, log *slog.Logger) []nats.Option {
	last := ""
	heed := func(_ *nats.Conn, _ *nats.Subscription, err error) { // called by one goroutine
		level := slog.LevelWarn
		if err.Error() == last {
			level = slog.LevelDebug
		}
		last = err.Error()
		log.Log(context.Background(), level, "NATS says that something is wrong", "error", err)
	}
	return []nats.Option{
		nats.ErrorHandler(heed),
		nats.Name(name), nats.Timeout(askWithin), nats.FlusherTimeout(askWithin), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
	}
}

// ending makes a connection end with the context, whatever it waits for: the library itself asks for names and tries
// one server after the other for as long as that takes. A dialer of the user's is left as it is.
func ending(ctx context.Context) nats.Option {
	return func(o *nats.Options) error {
		if o.CustomDialer == nil && o.Dialer == nil {
			o.CustomDialer, o.SkipHostLookup = dialer{ctx, o.Timeout}, true
		}
		return nil
	}
}

type dialer struct {
	ctx     context.Context // of all that it dials
	timeout time.Duration
}

// Dial implements nats.CustomDialer. It tries all addresses that the name has, in any order.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address of NATS: %w", err)
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("address of NATS: %w", err)
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	each := net.Dialer{Timeout: d.timeout / time.Duration(len(addrs))}
	for _, addr := range addrs {
		var conn net.Conn
		if conn, err = each.DialContext(ctx, network, net.JoinHostPort(addr, port)); err == nil {
			c := &endingConn{Conn: conn}
			c.stop = context.AfterFunc(d.ctx, func() { _ = conn.Close() }) // whoever reads or writes is told
			return c, nil
		}
	}
	return nil, fmt.Errorf("connect to NATS: %w", err)
}

// endingConn is closed when the context ends.
type endingConn struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (c *endingConn) Close() error {
	c.stop()
	return c.Conn.Close() //nolint:wrapcheck // the caller knows only net.Conn
}
