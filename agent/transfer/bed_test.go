package transfer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nigh/agent/identity"
	"nigh/agent/store"
)

// patience bounds every wait of a test.
const patience = time.Minute

// A bed is a set of devices joined by real HTTP over loopback. Who calls is told by a header that the bed's transport sets, as a
// session proves it by a key.
type bed struct {
	t       testing.TB
	mu      sync.Mutex
	devices map[identity.DeviceID]*device
	remote  map[identity.DeviceID]string // URLs of devices in other processes
	listen  string                       // address of the devices, when not any
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
	engine func(*Engine) // changes a new engine before it runs

	mu      sync.Mutex
	news    chan struct{} // closed and renewed at every change
	history []Transfer
	handler http.Handler // wraps the engine's when set
	down    bool
}

func newBed(t testing.TB) *bed {
	return &bed{t: t, devices: map[identity.DeviceID]*device{}, remote: map[identity.DeviceID]string{}}
}

// device starts a device; config may change its configuration.
func (b *bed) device(name string, config func(*Config)) *device {
	b.t.Helper()
	return b.deviceIn(name, b.t.TempDir(), config)
}

// deviceIn starts a device with its state and inbox below dir.
func (b *bed) deviceIn(name, dir string, config func(*Config)) *device {
	b.t.Helper()
	d := &device{bed: b, id: sha256.Sum256([]byte(name)), dir: dir, news: make(chan struct{}), config: config}
	d.inbox = filepath.Join(d.dir, "inbox")
	d.server = httptest.NewUnstartedServer(http.HandlerFunc(d.serve))
	if b.listen != "" {
		l, err := net.Listen("tcp", b.listen)
		if err != nil {
			b.t.Fatal(err)
		}
		d.server.Listener.Close()
		d.server.Listener = l
	}
	d.server.Start()
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
	if d.engine != nil {
		d.engine(e)
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
		url := d.bed.remote[to]
		if peer := d.bed.devices[to]; peer != nil {
			url = peer.server.URL
		}
		d.bed.mu.Unlock()
		if url == "" {
			return nil, fmt.Errorf("no way to %s", to.Short())
		}
		r = r.Clone(r.Context())
		r.URL.Host = strings.TrimPrefix(url, "http://")
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

// around makes the device answer through a wrapper, or by itself again.
func (d *device) around(wrap func(http.Handler) http.Handler) {
	h := http.Handler(nil)
	if wrap != nil {
		h = wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d.mu.Lock()
			e := d.Engine
			d.mu.Unlock()
			e.Handler().ServeHTTP(w, r)
		}))
	}
	d.mu.Lock()
	d.handler = h
	d.mu.Unlock()
}

// A tap sees the bytes of bulk answers before they leave, and may change them, or end the answer by returning an error.
type tap struct {
	http.ResponseWriter
	see func(p []byte) ([]byte, error)
}

func (w *tap) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *tap) Write(p []byte) (int, error) {
	q, err := w.see(p)
	if err != nil {
		return 0, err
	}
	if _, err := w.ResponseWriter.Write(q); err != nil {
		return 0, err
	}
	return len(p), nil
}

// tapped wraps the bulk answers of a device: files and batches.
func (d *device) tapped(see func(r *http.Request, p []byte) ([]byte, error)) {
	d.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p := r.URL.Path; strings.Contains(p, "/file/") || strings.HasSuffix(p, "/batch") || strings.HasPrefix(p, "/v1/b/") && !strings.HasSuffix(p, "/tree") {
				w = &tap{w, func(p []byte) ([]byte, error) { return see(r, p) }}
			}
			h.ServeHTTP(w, r)
		})
	})
}

// after calls fn once, when the device has sent n bytes of bulk answers.
func (d *device) after(n int64, fn func()) {
	var sent atomic.Int64
	d.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
		if now := sent.Add(int64(len(p))); now >= n && now-int64(len(p)) < n {
			fn()
		}
		return p, nil
	})
}

// parts returns the names in the inbox that end in .nigh-part, and fails if there is anything else.
func (d *device) parts() []string {
	d.bed.t.Helper()
	entries, err := os.ReadDir(d.inbox)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".nigh-part") {
			d.bed.t.Errorf("%q has its final name too early", e.Name())
		}
		all = append(all, e.Name())
	}
	return all
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
