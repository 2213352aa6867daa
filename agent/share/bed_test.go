package share

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
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
const patience = 2 * time.Minute

// A bed is a set of devices joined by real HTTP over loopback. Who calls is told by a header that the bed's transport sets, as a session proves
// it by a key.
type bed struct {
	t       testing.TB
	mu      sync.Mutex
	devices map[identity.DeviceID]*device
}

type device struct {
	*Shares
	bed    *bed
	id     identity.DeviceID
	dir    string
	server *httptest.Server
	store  *store.Store
	stop   func()
	config func(*Config)

	mu     sync.Mutex
	news   chan struct{} // closed and renewed at every change
	offers []Offer
	alien  bool // nobody trusts it
	refuse error
}

func newBed(t testing.TB) *bed { return &bed{t: t, devices: map[identity.DeviceID]*device{}} }

func (b *bed) device(name string, config func(*Config)) *device {
	b.t.Helper()
	d := &device{bed: b, id: sha256.Sum256([]byte(name)), dir: b.t.TempDir(), news: make(chan struct{}), config: config}
	d.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.Handler().ServeHTTP(w, r) }))
	b.mu.Lock()
	b.devices[d.id] = d
	b.mu.Unlock()
	d.start()
	b.t.Cleanup(func() {
		d.stop()
		d.server.CloseClientConnections()
		d.server.Close()
	})
	return d
}

// start opens the store and runs shares on it.
func (d *device) start() {
	d.bed.t.Helper()
	s, err := store.Open(filepath.Join(d.dir, "state"))
	if err != nil {
		d.bed.t.Fatal(err)
	}
	cfg := Config{Store: s, State: filepath.Join(d.dir, "state"), Inbox: func() string { return filepath.Join(d.dir, "inbox") }, Peers: d, Changed: d.changed,
		Logger: slog.New(slog.NewTextHandler(testWriter{d.bed.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Caller: func(r *http.Request) (id identity.DeviceID, ok bool) {
			err := id.UnmarshalText([]byte(r.Header.Get("Test-Peer")))
			d.bed.mu.Lock()
			defer d.bed.mu.Unlock()
			peer := d.bed.devices[id]
			return id, err == nil && (peer == nil || !peer.alien)
		},
		Send: func(_ context.Context, o Offer) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.offers = append(d.offers, o)
			return d.refuse
		}}
	if d.config != nil {
		d.config(&cfg)
	}
	shares, err := New(cfg)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	shares.settle, shares.hashSettle, shares.verifyAfter = 20*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- shares.Run(ctx) }()
	d.Shares, d.store = shares, s
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			d.bed.t.Error(err)
		}
	})
}

// Control makes the device the Peers of its shares.
func (d *device) Control(to identity.DeviceID) *http.Client {
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
		return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	// A fuzz target may not log by the one that it was made of.
	if _, fuzzing := w.t.(*testing.F); testing.Verbose() && !fuzzing {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

func (d *device) changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.news)
	d.news = make(chan struct{})
}

// await waits until ok says so of a share.
func (d *device) await(name string, ok func(Info) bool) Info {
	d.bed.t.Helper()
	deadline := time.After(patience)
	for {
		d.mu.Lock()
		news := d.news
		d.mu.Unlock()
		var last Info
		for _, i := range d.List() {
			if i.Name == name {
				if last = i; ok(i) {
					return i
				}
			}
		}
		select {
		case <-news:
		case <-deadline:
			d.bed.t.Fatalf("share %s did not come to it: %+v", name, last)
		}
	}
}

// share makes a share and waits until it is whole and hashed.
func (d *device) share(req AddRequest) Info {
	d.bed.t.Helper()
	i, err := d.Add(req)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	return d.await(i.Name, hashed)
}

func hashed(i Info) bool { return (i.State == Ready || i.State == Full) && i.Hashed == i.Files }

// files makes files with their names as content, folders for names that end in "/".
func files(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// names lists a page of the asking device.
func (d *device) names(of *device, share, path string) []string {
	d.bed.t.Helper()
	page, err := d.Browse(d.bed.t.Context(), of.id, share, path, "", 0)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	list := []string{}
	for _, e := range page.Entries {
		list = append(list, e.Name)
	}
	return list
}
