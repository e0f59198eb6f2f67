//go:build unix

package robust

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// process is a node in a process of its own, behind a proxy of its own.
type process struct {
	name    string
	index   int
	life    int // how often this node has been started
	proxy   *toxiproxy.Proxy
	cmd     *exec.Cmd
	in      io.WriteCloser
	lines   <-chan string
	lived   []string // names of earlier lives, each of which was killed
	history string
	clock   string // the file by which its clock is shifted
}

// newProcess makes the node's proxy; start makes the node.
func newProcess(index int, server string) (*process, error) {
	metrics := toxiproxy.NewMetricsContainer(nil)
	p := &process{index: index}
	p.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(metrics, zerolog.New(io.Discard)), fmt.Sprintf("node%d", index), "127.0.0.1:0", server)
	return p, p.proxy.Start()
}

// dsn is the server's address by way of the proxy.
func (p *process) dsn(direct string) (string, error) {
	u, err := url.Parse(direct)
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddrPort(p.proxy.Listen); err != nil {
		return "", err
	}
	u.Host = p.proxy.Listen
	return u.String(), nil
}

// start starts a life of the node. It does not wait until it is live.
func (p *process) start(w *world) error {
	p.life++
	p.name = fmt.Sprintf("node%d.%d", p.index, p.life)
	p.history = filepath.Join(w.dir, p.name+".ndjson")
	dsn, err := p.dsn(w.dsn)
	if err != nil {
		return err
	}
	text, err := json.Marshal(nodeConfig{Name: p.name, DSN: dsn, History: p.history, Seed: w.cfg.Seed, Index: p.index*10 + p.life})
	if err != nil {
		return err
	}
	program := w.cfg.Program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	p.clock = filepath.Join(w.dir, p.name+".clock")
	if err := os.WriteFile(p.clock, make([]byte, 16), 0o600); err != nil {
		return err
	}
	p.cmd = exec.Command(program)
	p.cmd.Env = append(os.Environ(), NodeEnv+"="+string(text), "CLOCK_SHIFT="+p.clock)
	p.cmd.Stderr = &w.stderr
	p.cmd.SysProcAttr = endsWithParent()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.lines = said(out)
	return nil
}

// tell gives the node a line.
func (p *process) tell(line string) error {
	_, err := fmt.Fprintln(p.in, line)
	return err
}

// await waits until the node says a line.
func (p *process) await(ctx context.Context, line string) error {
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				return fmt.Errorf("%s ended before it said %q", p.name, line)
			}
			if strings.TrimSpace(l) == line {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%s did not say %q: %w", p.name, line, context.Cause(ctx))
		}
	}
}

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// shift puts the node's clock forward, or back. The file is mapped, so it is written in place.
func (p *process) shift(d time.Duration) error {
	f, err := os.OpenFile(p.clock, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(d)), 0)
	return errors.Join(err, f.Close())
}

// kill ends this life of the node at once.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	_ = p.cmd.Wait() // it was killed
	p.lived = append(p.lived, p.name)
	return err
}

// finish lets the node close, and waits until it has ended.
func (p *process) finish(ctx context.Context) error {
	err := p.in.Close()
	ended := make(chan struct{})
	var exit error
	go func() {
		defer close(ended)
		exit = p.cmd.Wait()
	}()
	select {
	case <-ended:
		return errors.Join(err, exit)
	case <-ctx.Done():
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // where it stands is in its last words
		last := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
		defer last.Stop()
		<-ended
		return fmt.Errorf("%s did not end: %w", p.name, context.Cause(ctx))
	}
}

// toxic adds a toxic in both directions.
func (p *process) toxic(kind, attributes string) error {
	for _, stream := range []string{"upstream", "downstream"} {
		spec := fmt.Sprintf(`{"name": %q, "type": %q, "stream": %q, "attributes": {%s}}`, stream, kind, stream, attributes)
		if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
			return err
		}
	}
	return nil
}

// heal takes every toxic away, and makes the proxy listen.
func (p *process) heal(ctx context.Context) error {
	p.proxy.Toxics.ResetToxics(ctx)
	if err := p.proxy.Start(); err != nil && !errors.Is(err, toxiproxy.ErrProxyAlreadyStarted) {
		return err
	}
	return nil
}
