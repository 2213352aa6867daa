package transfer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/agent/store"
)

// patience bounds every wait of a test.
const patience = 20 * time.Second

// A bed is a set of devices joined by real HTTP over loopback. Who calls is told by a header that the bed's transport sets, as a
// session proves it by a key.
type bed struct {
	t       testing.TB
	mu      sync.Mutex
	devices map[identity.DeviceID]*device
}

type device struct {
	*Engine
	bed    *bed
	id     identity.DeviceID
	dir    string
	inbox  string
	server *httptest.Server
	store  *store.Store
	stop   func()
	client *http.Client
	config func(*Config)

	mu      sync.Mutex
	news    chan struct{} // closed and renewed at every change
	history []Transfer
	handler http.Handler // wraps the engine's when set
	down    bool
}

func newBed(t testing.TB) *bed { return &bed{t: t, devices: map[identity.DeviceID]*device{}} }

// device starts a device; config may change its configuration.
func (b *bed) device(name string, config func(*Config)) *device {
	b.t.Helper()
	d := &device{bed: b, id: sha256.Sum256([]byte(name)), dir: b.t.TempDir(), news: make(chan struct{}), config: config}
	d.inbox = filepath.Join(d.dir, "inbox")
	d.server = httptest.NewServer(http.HandlerFunc(d.serve))
	d.client = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8}}
	b.mu.Lock()
	b.devices[d.id] = d
	b.mu.Unlock()
	d.start()
	b.t.Cleanup(func() {
		d.halt()
		d.client.CloseIdleConnections()
		d.server.CloseClientConnections()
		d.server.Close()
	})
	return d
}

// start opens the store and runs an engine on it.
func (d *device) start() {
	d.bed.t.Helper()
	s, err := store.Open(filepath.Join(d.dir, "state"))
	if err != nil {
		d.bed.t.Fatal(err)
	}
	cfg := Config{Store: s, Self: d.id, Peers: d, Inbox: d.inbox, Changed: d.changed, Logger: testLog(d.bed.t),
		Caller: func(r *http.Request) (id identity.DeviceID, ok bool) {
			return id, id.UnmarshalText([]byte(r.Header.Get("Test-Peer"))) == nil
		}}
	if d.config != nil {
		d.config(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			d.bed.t.Error(err)
		}
	}()
	d.mu.Lock()
	d.Engine, d.store, d.down = e, s, false
	d.mu.Unlock()
	d.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			d.bed.t.Error(err)
		}
	})
}

// halt stops the engine in good order; the device answers no more.
func (d *device) halt() {
	d.cut(true)
	d.stop()
}

// cut makes the device unreachable, or reachable again.
func (d *device) cut(down bool) {
	d.mu.Lock()
	d.down = down
	d.mu.Unlock()
	if down {
		d.server.CloseClientConnections()
	}
}

func (d *device) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	down, e, h := d.down, d.Engine, d.handler
	d.mu.Unlock()
	switch {
	case down:
		panic(http.ErrAbortHandler)
	case h != nil:
		h.ServeHTTP(w, r)
	default:
		e.Handler().ServeHTTP(w, r)
	}
}

// Control and Bulk make the device the Peers of its engine.
func (d *device) Control(to identity.DeviceID) *http.Client { return d.clientTo(to) }
func (d *device) Bulk(to identity.DeviceID) *http.Client    { return d.clientTo(to) }

func (d *device) clientTo(to identity.DeviceID) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		d.bed.mu.Lock()
		peer := d.bed.devices[to]
		d.bed.mu.Unlock()
		if peer == nil {
			return nil, fmt.Errorf("no way to %s", to.Short())
		}
		r = r.Clone(r.Context())
		r.URL.Host = strings.TrimPrefix(peer.server.URL, "http://")
		r.Header.Set("Test-Peer", d.id.String())
		return d.client.Transport.RoundTrip(r)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (d *device) changed(t Transfer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history = append(d.history, t)
	close(d.news)
	d.news = make(chan struct{})
}

// until waits until a transfer of the device satisfies ok, and returns it.
func (d *device) until(what string, ok func(Transfer) bool) Transfer {
	d.bed.t.Helper()
	deadline := time.After(patience)
	for {
		d.mu.Lock()
		news := d.news
		d.mu.Unlock()
		list := d.Transfers()
		for _, t := range list {
			if ok(t) {
				return t
			}
		}
		select {
		case <-news:
		case <-deadline:
			d.bed.t.Fatalf("%s: no transfer is %s: %+v", d.id.Short(), what, list)
		}
	}
}

func (d *device) untilState(s State) Transfer {
	d.bed.t.Helper()
	return d.until(string(s), func(t Transfer) bool { return t.State == s })
}

// send sends paths to another device and returns the transfer.
func (d *device) send(to *device, paths ...string) Transfer {
	d.bed.t.Helper()
	list, err := d.Send(context.Background(), SendRequest{Paths: paths, To: []identity.DeviceID{to.id}})
	if err != nil {
		d.bed.t.Fatal(err)
	}
	return list[0]
}

func acceptAll(c *Config) { c.Decide = func(Offer) Decision { return Accept } }

// write makes a file with n reproducible bytes.
func write(t testing.TB, path string, n int) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(filepath.Base(path)))), int64(n)); err != nil {
		t.Fatal(err)
	}
	return path
}

// list describes everything below a path: names, types, modes, times and hashes.
func list(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		what := fmt.Sprintf("%s %s", fi.Mode(), fi.ModTime().UTC().Format(time.RFC3339Nano))
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
		}
		all[rel] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same compares what two paths hold.
func same(t testing.TB, want, got string) {
	t.Helper()
	a, b := list(t, want), list(t, got)
	for p, w := range a {
		if b[p] != w {
			t.Errorf("%s: %q, want %q", p, b[p], w)
		}
	}
	for p := range b {
		if a[p] == "" {
			t.Errorf("%s: %s was never sent", p, b[p])
		}
	}
}

// clean checks that nothing but the given names is in the inbox.
func (d *device) clean(names ...string) {
	d.bed.t.Helper()
	entries, err := os.ReadDir(d.inbox)
	if err != nil && len(names) > 0 {
		d.bed.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		d.bed.t.Errorf("inbox holds %q, want %q", got, names)
	}
}
