package message

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
const patience = 20 * time.Second

// A bed is a set of devices joined by real HTTP over loopback. Who calls is told by a header that the bed's transport sets, as a
// session proves it by a key.
type bed struct {
	t       testing.TB
	mu      sync.Mutex
	devices map[identity.DeviceID]*device
	remote  map[identity.DeviceID]string // addresses of devices in other processes
	listen  string                       // address of the next device, when not any
}

// A device trusts everybody but those in strangers.
type device struct {
	*Engine
	bed    *bed
	id     identity.DeviceID
	dir    string
	server *httptest.Server
	store  *store.Store
	stop   func()
	client *http.Client
	near   atomic.Bool // whoever is asked about

	mu        sync.Mutex
	news      chan struct{} // closed and renewed at every report
	gone      []string
	unread    Unread
	strangers map[identity.DeviceID]bool
	before    func(*http.Request) // called before a request is served; may panic
	after     func(*http.Request) // called when the answer is written but not sent; may panic
	down      bool
}

func newBed(t testing.TB) *bed {
	return &bed{t: t, devices: map[identity.DeviceID]*device{}, remote: map[identity.DeviceID]string{}}
}

func idOf(name string) identity.DeviceID { return sha256.Sum256([]byte(name)) }

func (b *bed) device(name string) *device {
	b.t.Helper()
	return b.deviceIn(name, b.t.TempDir())
}

// deviceIn starts a device with its state below dir.
func (b *bed) deviceIn(name, dir string) *device {
	b.t.Helper()
	d := &device{bed: b, id: idOf(name), dir: dir, news: make(chan struct{}), strangers: map[identity.DeviceID]bool{}}
	d.server = httptest.NewUnstartedServer(http.HandlerFunc(d.serve))
	if b.listen != "" {
		l, err := net.Listen("tcp", b.listen)
		if err != nil {
			b.t.Fatal(err)
		}
		d.server.Listener.Close()
		d.server.Listener = l
	}
	d.client = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8}}
	d.start()
	d.server.Start()
	b.mu.Lock()
	b.devices[d.id] = d
	b.mu.Unlock()
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
	e, err := New(Config{
		Store: s, Peers: d,
		Caller: func(r *http.Request) (id identity.DeviceID, ok bool) {
			return id, id.UnmarshalText([]byte(r.Header.Get("Test-Peer"))) == nil
		},
		Trusted: func(id identity.DeviceID) bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return !d.strangers[id]
		},
		Near:    func(identity.DeviceID) bool { return d.near.Load() },
		Changed: func(Message) { d.reported(func() {}) },
		Gone:    func(id string) { d.reported(func() { d.gone = append(d.gone, id) }) },
		Read:    func(u Unread) { d.reported(func() { d.unread = u }) },
	})
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

// restart stops the engine and starts it again on the same state.
func (d *device) restart() {
	d.halt()
	d.start()
}

// cut makes the device unreachable, or reachable again.
func (d *device) cut(down bool) {
	d.mu.Lock()
	d.down = down
	d.mu.Unlock()
	if down && d.server.URL != "" {
		d.server.CloseClientConnections()
	}
}

func (d *device) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	down, e, before, after := d.down, d.Engine, d.before, d.after
	d.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	// As the session does: only then the end of a connection is noticed.
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	if before != nil {
		before(r)
	}
	e.Handler().ServeHTTP(w, r)
	if after != nil {
		after(r)
	}
}

// Control makes the device the Peers of its engine.
func (d *device) Control(to identity.DeviceID) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		d.bed.mu.Lock()
		address := d.bed.remote[to]
		if peer := d.bed.devices[to]; peer != nil {
			address = strings.TrimPrefix(peer.server.URL, "http://")
		}
		d.bed.mu.Unlock()
		if address == "" {
			return nil, fmt.Errorf("no way to %s", to.Short())
		}
		r = r.Clone(r.Context())
		r.URL.Host = address
		r.Header.Set("Test-Peer", d.id.String())
		return d.client.Transport.RoundTrip(r)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (d *device) reported(note func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	note()
	close(d.news)
	d.news = make(chan struct{})
}

// await waits until ok, which is asked again after every report.
func (d *device) await(what string, ok func() bool) {
	d.bed.t.Helper()
	deadline := time.After(patience)
	for {
		d.mu.Lock()
		news := d.news
		d.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-news:
		case <-deadline:
			d.bed.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// say sends a text, which must be possible.
func (d *device) say(text string, to ...*device) Message {
	d.bed.t.Helper()
	var ids []identity.DeviceID
	for _, p := range to {
		ids = append(ids, p.id)
	}
	m, err := d.Send(ids, text)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	return m
}

// only is a list of one device.
func (b *bed) only(d *device) []identity.DeviceID { return []identity.DeviceID{d.id} }

// state returns what became of a message for a device.
func (d *device) state(m Message, to *device) (State, string) {
	d.bed.t.Helper()
	now, err := d.Message(m.ID)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	for _, r := range now.To {
		if r.Peer == to.id {
			return r.State, r.Code
		}
	}
	d.bed.t.Fatalf("message %s is not for %s", m.ID, to.id.Short())
	return "", ""
}

// becomes waits until a message has a state for a device.
func (d *device) becomes(m Message, to *device, want State) {
	d.bed.t.Helper()
	d.await(fmt.Sprintf("message %s is %s", m.ID, want), func() bool {
		got, _ := d.state(m, to)
		return got == want
	})
}

// texts returns all that a device received, in order.
func (d *device) texts() []string {
	d.bed.t.Helper()
	var texts []string
	for since := uint64(0); ; {
		list, more, err := d.List(context.Background(), Query{Since: since, Oldest: true, Limit: maxPage})
		if err != nil {
			d.bed.t.Fatal(err)
		}
		for _, m := range list {
			if m.Direction == Receive {
				texts = append(texts, m.Text)
			}
			since = m.Seq
		}
		if !more {
			return texts
		}
	}
}
