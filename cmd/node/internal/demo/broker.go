package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pglockstep/lockstep/internal/natsserver"
)

// RunBroker is a process with a NATS server in it, whose streams are files in dir. It answers
// requests from in, which stop the server (down) and start it again on the same files and port (up), and
// ends when in does, and removes dir, so that neither it nor its files outlive the demo.
func RunBroker(dir string, in io.Reader, out io.Writer) (err error) {
	p := &process{out: json.NewEncoder(out)}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := natsserver.Start(natsserver.Config{Dir: dir})
	if err != nil {
		return p.failed(err)
	}
	defer func() {
		if server != nil {
			server.Stop()
		}
	}()
	port := server.Port
	p.say(message{Kind: "ready", Text: fmt.Sprintf("127.0.0.1:%d", port)})
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err // not the parent
		}
		m := message{Kind: "reply", ID: r.ID}
		switch {
		case r.Do == "down" && server != nil:
			server.Stop()
			server = nil
		case r.Do == "up" && server == nil:
			if server, err = natsserver.Start(natsserver.Config{Dir: dir, Port: port}); err != nil {
				server, m.Failed = nil, err.Error()
			}
		}
		p.say(m)
	}
	return nil
}

// broker is this program, run again as a NATS server.
type broker struct {
	*child
	dir string
}

// startBroker runs a broker, and waits until it takes connections.
func startBroker(ctx context.Context, heed func(*child, message)) (b broker, err error) {
	if b.dir, err = os.MkdirTemp("", "lockstep-nats-*"); err != nil {
		return b, err
	}
	if b.child, err = startChild(ctx, "NATS", nil, heed, "demo-broker", b.dir); err != nil {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, err
}

// end stops it. Its files are still there where it was killed.
func (b broker) end() error {
	b.stop()
	return os.RemoveAll(b.dir)
}
