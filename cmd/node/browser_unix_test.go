//go:build unix

package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with one page, and everything that was wrong in it.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	wrong  []string
	mark   int
	marked chan string // the marks that the console has told of
}

// chromium is the browser's program.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium is installed (Debian: apt-get install chromium)")
	return ""
}

// openBrowser opens a page of a width. It ends with the test, which fails where
// the page's console has an error or a warning.
func openBrowser(t *testing.T, width, height int64, address string) *browser {
	t.Helper()
	path := chromium(t)
	dir, err := os.MkdirTemp("", "lockstep-browser-")
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, marked: make(chan string, 100)}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(2*time.Minute))
	allocated, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	var leave context.CancelFunc
	b.ctx, leave = chromedp.NewContext(allocated)
	console := chromedp.Console(b.ctx)
	var hearing sync.WaitGroup
	hearing.Go(func() { b.hear(console) })
	t.Cleanup(func() {
		_ = chromedp.Cancel(b.ctx) // closes the browser and waits for it
		leave()
		stop()
		hearing.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b.do(viewport(width, height), chromedp.Navigate(address))
	return b
}

// viewport gives the page a window of so many pixels.
func viewport(width, height int64) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500})
		return err
	})
}

// scheme makes the page light or dark.
func scheme(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
		return err
	})
}

// hear keeps what the console says that should not be said.
func (b *browser) hear(console iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range console {
		if err != nil {
			return // the browser has ended
		}
		switch m.Type {
		case chromedp.ConsoleError, chromedp.ConsoleWarning, chromedp.ConsoleException, "assert":
			b.mu.Lock()
			b.wrong = append(b.wrong, m.String()+" "+m.URL)
			b.mu.Unlock()
		case chromedp.ConsoleDebug:
			b.marked <- m.Text
		}
	}
}

// heard waits until everything has been heard that the console has said.
func (b *browser) heard() {
	b.t.Helper()
	b.mark++
	mark := fmt.Sprint("mark ", b.mark)
	b.read(fmt.Sprintf("console.debug(%q)", mark))
	limit := time.After(time.Minute)
	for {
		select {
		case m := <-b.marked:
			if m == mark {
				return
			}
		case <-limit:
			b.t.Fatal("the console is silent")
		}
	}
}

// quiet checks that nothing was wrong so far, and that the page is no wider than its window.
func (b *browser) quiet() {
	b.t.Helper()
	if wide := b.read("document.documentElement.scrollWidth > innerWidth ? document.documentElement.scrollWidth : ''"); wide != "" {
		b.t.Errorf("the page is wider than its window: %s", wide)
	}
	b.heard()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrong {
		b.t.Errorf("in the browser's console: %s", w)
	}
	b.wrong = nil
}

// forget lets pass what the console has said with a text in it, which must be there.
func (b *browser) forget(text string) {
	b.t.Helper()
	b.heard()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.wrong)
	if b.wrong = slices.DeleteFunc(b.wrong, func(w string) bool { return strings.Contains(w, text) }); len(b.wrong) == n {
		b.t.Errorf("the console has not told of %s: %q", text, b.wrong)
	}
}

// do does things in the page, within two minutes.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// read is an expression's value in the page.
func (b *browser) read(expression string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until an expression is true in the page.
func (b *browser) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(0))); err != nil {
		b.t.Fatalf("waited in vain for %s: %v\nthe page says:\n%s", expression, err, b.read("document.body.innerText"))
	}
}

// press focuses a button and presses Enter, as somebody without a mouse does, once it can be pressed.
func (b *browser) press(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)?.disabled === false", selector))
	b.do(chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent("\r"))
}

// choose sets a field as somebody who types or clicks there does.
func (b *browser) choose(id, value string) {
	b.t.Helper()
	b.read(fmt.Sprintf("(document.getElementById(%q).value = %q, ['input', 'change'].map(e => document.getElementById(%q).dispatchEvent(new Event(e))))", id, value, id))
}

// shoot writes a picture of the page into -screenshots.
func (b *browser) shoot(name, colours string, width, height int64) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	b.do(scheme(colours), viewport(width, height))
	b.read("scrollTo(0, 0)")
	ink := map[string]string{"light": "rgb(91%2C100%2C114)", "dark": "rgb(152%2C162%2C179)"}[colours]
	b.until(fmt.Sprintf("[...document.querySelectorAll('figure img')].every(i => i.src.includes(%q) && i.complete)", ink))
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
