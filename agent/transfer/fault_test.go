package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// failedWith returns the receiver's transfer once it failed, and checks why.
func (d *device) failedWith(code string) Transfer {
	d.bed.t.Helper()
	got := d.untilState(Failed)
	if got.ErrorCode != code {
		d.bed.t.Errorf("failed with %q (%s), want %q", got.ErrorCode, got.Error, code)
	}
	return got
}

// emptied waits until nothing is left in the inbox.
func (d *device) emptied() {
	d.bed.t.Helper()
	d.until("cleaned up", func(Transfer) bool {
		entries, err := os.ReadDir(d.inbox)
		return err != nil || len(entries) == 0
	})
}

// A byte that is wrong once is fetched again, group by group; the sender need not do more.
func TestWrongByteOnce(t *testing.T) {
	for name, size := range map[string]int{"large": 10 << 20, "small": 5000} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			path := write(t, filepath.Join(t.TempDir(), "file"), size)
			var once atomic.Bool
			alice.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
				if once.CompareAndSwap(false, true) {
					p = bytes.Clone(p)
					p[frameHeader+77] ^= 1
				}
				return p, nil
			})
			alice.send(bob, path)
			got := bob.untilState(Done)
			same(t, path, got.Path)
			if s := alice.untilState(Done); s.Sent > int64(size)+groupBuffer || s.Sent == int64(size) {
				t.Errorf("%d bytes sent for %d", s.Sent, size)
			}
		})
	}
}

// A sender that is wrong every time is blamed, and nothing of it stays.
func TestWrongByteAlways(t *testing.T) {
	for name, size := range map[string]int{"large": 10 << 20, "small": 5000} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			path := write(t, filepath.Join(t.TempDir(), "file"), size)
			alice.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
				p = bytes.Clone(p)
				p[frameHeader+77] ^= 1
				return p, nil
			})
			alice.send(bob, path)
			bob.failedWith("verify")
			bob.emptied()
			alice.failedWith("verify")
		})
	}
}

// offerAs has a device offer a path with another manifest and another summary than it has.
func (d *device) offerAs(to *device, path string, entry func(Entry) []Entry, summary func(*Summary)) {
	d.bed.t.Helper()
	to.cut(true)
	tr := d.send(to, path)
	d.until("tried in vain", func(t Transfer) bool { return t.ErrorCode == "peer_gone" })
	d.mu.Lock()
	e := d.Engine
	d.mu.Unlock()
	e.mu.Lock()
	t := e.all[tr.ID]
	e.mu.Unlock()
	kept, err := e.loadSource(t) // while nobody asks for it, the store has it
	if err != nil {
		d.bed.t.Fatal(err)
	}
	e.mu.Lock()
	var b builder
	for c := kept.from(0); ; {
		old, ok := c.next()
		if !ok {
			break
		}
		for _, changed := range entry(old) {
			if err := b.encode(changed); err != nil {
				d.bed.t.Error(err)
			}
		}
	}
	src := &source{manifest: b.finish(), places: kept.places, stamps: make([]int64, b.m.entries())}
	copy(src.stamps, kept.stamps)
	t.src = src
	t.rec.Offer.Summary = src.Summary
	summary(&t.rec.Offer.Summary)
	e.mu.Unlock()
	to.cut(false)
	d.Wake(to.id)
}

func asItIs(e Entry) []Entry { return []Entry{e} }

// The manifest must be what the offer showed, in every number and flag.
func TestOfferThatHides(t *testing.T) {
	hidden := Entry{Path: "tree/zz/.ssh", Size: 10}
	extra := func(e Entry) []Entry {
		if e.Path == "tree/file" {
			return []Entry{e, {Path: "tree/zz", Dir: true}, hidden}
		}
		return []Entry{e}
	}
	for name, c := range map[string]struct {
		entry   func(Entry) []Entry
		summary func(*Summary)
	}{
		"an entry more": {extra, func(s *Summary) { s.Files-- }},
		"a dotfile":     {extra, func(s *Summary) { s.Dotfiles = false }},
		"an executable": {func(e Entry) []Entry { e.Executable = !e.Dir; return []Entry{e} }, func(s *Summary) { s.Executables = false }},
		"bytes":         {asItIs, func(s *Summary) { s.Bytes -= 10 }},
		"more bytes":    {asItIs, func(s *Summary) { s.Bytes += 10 }},
		"a name":        {asItIs, func(s *Summary) { s.Names = []string{"holiday"} }},
		"directories":   {asItIs, func(s *Summary) { s.Dirs++ }},
		"the manifest":  {asItIs, func(s *Summary) { s.Root[0]++ }},
		"its end":       {extra, func(s *Summary) { s.Size -= 10 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			dir := filepath.Join(t.TempDir(), "tree")
			write(t, filepath.Join(dir, "file"), 5000)
			alice.offerAs(bob, dir, c.entry, c.summary)
			bob.failedWith("protocol")
			bob.emptied()
		})
	}
}

// The hashes of a sender that knew them before are binding.
func TestKnownHashIsBinding(t *testing.T) {
	for name, size := range map[string]int{"large": 3 << 20, "small": 5000} {
		for _, lie := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lie %v", name, lie), func(t *testing.T) {
				b := newBed(t)
				alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
				path := write(t, filepath.Join(t.TempDir(), "file"), size)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				alice.offerAs(bob, path, func(e Entry) []Entry {
					if e.Hash = content.Sum(whole); lie {
						e.Hash[5]++
					}
					return []Entry{e}
				}, func(*Summary) {})
				if !lie {
					same(t, path, bob.untilState(Done).Path)
					return
				}
				bob.failedWith("verify")
				bob.emptied()
			})
		}
	}
}

// What comes is not what was offered: the manifest is held against the offer, the answers against the manifest.
func TestLyingSender(t *testing.T) {
	edit := func(end string, change func(body []byte) []byte) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, end) {
					h.ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				w.WriteHeader(rec.Code)
				_, _ = w.Write(change(rec.Body.Bytes()))
			})
		}
	}
	other := encode(t, Entry{Path: ".bashrc", Size: 9}).blob
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		code string
	}{
		"another manifest":       {edit("/manifest", func(b []byte) []byte { return append(bytes.Clone(other), b...)[:len(b)] }), "protocol"},
		"hostile name":           {edit("/manifest", func(b []byte) []byte { return bytes.Replace(b, []byte("small"), []byte("../.."), 1) }), "protocol"},
		"garbage manifest":       {edit("/manifest", func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) }), "protocol"},
		"another entry in batch": {edit("/batch", func(b []byte) []byte { b[3]++; return b }), "protocol"},
		"longer in batch":        {edit("/batch", func(b []byte) []byte { b[8]++; return b }), "protocol"},
		"length 4 GiB in batch":  {edit("/batch", func(b []byte) []byte { binary.BigEndian.PutUint32(b[5:], 1<<32-1); return b }), "protocol"},
		"unknown status":         {edit("/batch", func(b []byte) []byte { b[4] = 9; return b }), "protocol"},
		"hash for a file":        {edit("/batch", func(b []byte) []byte { b[4] = frameHash; b[5], b[6], b[7], b[8] = 0, 0, 0, 0; return b }), "protocol"},
		"garbage refusal":        {func(http.Handler) http.Handler { return http.HandlerFunc(badRefusal) }, "protocol"},
		"offer withdrawn":        {func(http.Handler) http.Handler { return http.HandlerFunc(withdrawn) }, "withdrawn"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			dir := filepath.Join(t.TempDir(), "tree")
			write(t, filepath.Join(dir, "small"), 5000)
			alice.around(c.wrap)
			alice.send(bob, dir)
			bob.failedWith(c.code)
			bob.emptied()
			if entries, err := os.ReadDir(filepath.Dir(bob.inbox)); err != nil || len(entries) > 2 {
				t.Errorf("beside the inbox: %v, %v", entries, err)
			}
		})
	}
}

func badRefusal(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusTeapot)
	_, _ = w.Write([]byte(`{"code":"\u001b[2J","reason":"` + strings.Repeat("x", 1<<20)))
}

func withdrawn(w http.ResponseWriter, r *http.Request) { writeRefusal(w, ErrNotFound, "") }

// More is sent than was asked for: nothing of it is read, and the transfer is whole.
func TestEndlessAnswer(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	path := write(t, filepath.Join(t.TempDir(), "file"), 3000)
	alice.around(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			for strings.HasSuffix(r.URL.Path, "/batch") {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		})
	})
	alice.send(bob, path)
	same(t, path, bob.untilState(Done).Path)
}

// A sender that stops in the middle of an answer is noticed, and asked again.
func TestSenderStops(t *testing.T) {
	b := newBed(t)
	alice := b.device("alice", nil)
	bob := b.deviceIn("bob", t.TempDir(), acceptAll)
	bob.halt()
	bob.engine = func(e *Engine) { e.stall, e.firstByte = 200*time.Millisecond, 400*time.Millisecond }
	bob.start()
	path := write(t, filepath.Join(t.TempDir(), "file"), 12<<20)
	hang, sent := make(chan struct{}), atomic.Int64{}
	alice.tapped(func(r *http.Request, p []byte) ([]byte, error) {
		if n := sent.Add(int64(len(p))); n > 6<<20 && n-int64(len(p)) <= 6<<20 {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return nil, errors.New("hung up")
		}
		return p, nil
	})
	defer close(hang)
	alice.send(bob, path)
	same(t, path, bob.untilState(Done).Path)
}

// Only the device that was asked may fetch; for all others the transfer is not there, in the same words as one that never was.
func TestOnlyTheReceiverMayFetch(t *testing.T) {
	b := newBed(t)
	alice, bob, carol := b.device("alice", nil), b.device("bob", nil), b.device("carol", nil)
	alice.send(bob, write(t, filepath.Join(t.TempDir(), "secret"), 3<<20))
	bob.untilState(Waiting)
	var x string
	alice.Engine.mu.Lock()
	for _, tr := range alice.all {
		x = tr.rec.Offer.X
	}
	alice.Engine.mu.Unlock()
	ask := func(d *device, x, method, end string) string {
		req, _ := http.NewRequest(method, "http://nigh/v1/x/"+x+end, strings.NewReader(`{"entries":[0],"state":"done"}`))
		req.Header.Set("Range", "bytes=0-1048575")
		resp, err := d.Bulk(alice.id).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		return fmt.Sprintf("%d %q %q", resp.StatusCode, body.String(), resp.Header.Get("Content-Type"))
	}
	for method, end := range map[string]string{"GET": "/manifest?from=0", "GET ": "/file/0", "GET  ": "/tree/0?from=0&to=1", "POST": "/batch", "POST ": "/state"} {
		method = strings.TrimSpace(method)
		got, never := ask(carol, x, method, end), ask(carol, strings.Repeat("0", 32), method, end)
		if !strings.HasPrefix(got, "404 ") || got != never {
			t.Errorf("carol asks %s: %s; for what never was: %s", end, got, never)
		}
	}
	for _, bad := range []string{"/file/1", "/file/-1", "/file/x", "/file/99999999999999999999", "/manifest?from=-1", "/manifest?from=1000", "/manifest",
		"/tree/0?from=0&to=99", "/tree/0?from=5&to=1", "/tree/0"} {
		if got := ask(bob, x, "GET", bad); !strings.HasPrefix(got, "400 ") {
			t.Errorf("bob asks %s: %s", bad, got)
		}
	}
	if got := ask(bob, x, "GET", "/file/0"); !strings.HasPrefix(got, "206 ") {
		t.Errorf("bob asks for the file: %.40s", got)
	}
	req, _ := http.NewRequest("GET", alice.server.URL+"/v1/x/"+x+"/file/0", nil)
	resp, err := bob.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 404 {
		t.Errorf("nobody asks: %v", resp.Status)
	}
}

// Offers are bounded in number and size, and hostile ones are refused before anyone sees them.
func TestOffersAreBounded(t *testing.T) {
	b := newBed(t)
	asked := atomic.Int32{}
	bob := b.device("bob", func(c *Config) { c.Decide = func(Offer) Decision { asked.Add(1); return Ask } })
	mallory := b.device("mallory", nil)
	post := func(body string) int {
		resp, err := mallory.Control(bob.id).Post("http://nigh/v1/offer", "application/json", strings.NewReader(body))
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	good := func() Offer {
		return Offer{Version: 1, X: newHex(16), Summary: Summary{Root: content.Sum(nil), Size: 10, Files: 1, Bytes: 5, Tops: 1, Names: []string{"a"}}}
	}
	hostile := map[string]func(*Offer){
		"version": func(o *Offer) { o.Version = 2 }, "x": func(o *Offer) { o.X = "../../etc" }, "upper x": func(o *Offer) { o.X = strings.ToUpper(newHex(15)) + "AF" },
		"million and one": func(o *Offer) { o.Files, o.Bytes = maxEntries+1, 0 }, "overflow": func(o *Offer) { o.Files, o.Dirs = 1<<62, 1<<62 },
		"negative files": func(o *Offer) { o.Files = -1 }, "negative bytes": func(o *Offer) { o.Bytes = -1 }, "2^63-1 bytes": func(o *Offer) { o.Bytes = 1<<63 - 1 },
		"100 MB of names": func(o *Offer) { o.Size = 100 << 20 }, "no manifest": func(o *Offer) { o.Size = 0 }, "no root": func(o *Offer) { o.Root = content.Hash{} },
		"no names": func(o *Offer) { o.Names = nil }, "names missing": func(o *Offer) { o.Files, o.Tops = 70, 70 },
		"label": func(o *Offer) { o.Label = strings.Repeat("x", 256) }, "skipped": func(o *Offer) { o.Skipped.Links = -1 },
		"examples": func(o *Offer) { o.Skipped.Examples = make([]string, 17) },
	}
	for _, name := range []string{"../x", "/x", "", "..", "a\x1b[2J", "\u202e", `C:\x`, "a/b", strings.Repeat("n", 256)} {
		hostile["name "+name] = func(o *Offer) { o.Names = []string{name} }
	}
	for what, change := range hostile {
		o := good()
		change(&o)
		p, _ := json.Marshal(o)
		if status := post(string(p)); status/100 != 4 {
			t.Errorf("%s: status %d", what, status)
		}
	}
	for what, body := range map[string]string{"nothing": "", "half": `{"v":1`, "array": "[]", "two": `{} {}`,
		"bad hash": `{"v":1,"manifest_root":"00"}`, "long": `{"label":"` + strings.Repeat("x", 1<<20) + `"}`, "deep": strings.Repeat("[", 50_000)} {
		if status := post(body); status != 0 && status/100 != 4 {
			t.Errorf("%s: status %d", what, status)
		}
	}
	if n := len(bob.Transfers()); n != 0 || asked.Load() != 0 {
		t.Fatalf("%d hostile offers got through, %d asked", n, asked.Load())
	}
	for i := range maxWaitingPerPeer + 5 {
		p, _ := json.Marshal(good())
		if status := post(string(p)); (i < maxWaitingPerPeer) != (status == http.StatusAccepted) || i >= maxWaitingPerPeer && status != http.StatusTooManyRequests {
			t.Errorf("offer %d: status %d", i, status)
		}
	}
	if n := len(bob.Transfers()); n != maxWaitingPerPeer {
		t.Errorf("%d offers wait", n)
	}
	// The same one again is one.
	same := good()
	for range 3 {
		p, _ := json.Marshal(same)
		post(string(p))
	}
	if n := len(bob.Transfers()); n != maxWaitingPerPeer {
		t.Errorf("%d offers wait", n)
	}
}

// Two devices may choose the same name for their transfers; neither reaches the other's.
func TestSameNameFromTwoPeers(t *testing.T) {
	b := newBed(t)
	bob := b.device("bob", nil)
	alice, mallory := b.device("alice", nil), b.device("mallory", nil)
	o := Offer{Version: 1, X: newHex(16), Summary: Summary{Root: content.Sum(nil), Size: 10, Files: 1, Bytes: 5, Tops: 1, Names: []string{"a"}}}
	ctx := context.Background()
	for _, d := range []*device{alice, mallory} {
		if _, err := d.post(ctx, bob.id, "/v1/offer", o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mallory.post(ctx, bob.id, "/v1/x/"+o.X+"/state", stateMessage{State: Failed, Code: "cancelled"}); err != nil {
		t.Fatal(err)
	}
	for _, tr := range bob.Transfers() {
		if want := map[identity.DeviceID]State{alice.id: Waiting, mallory.id: Failed}[tr.Peer]; tr.State != want {
			t.Errorf("the offer of %s is %s, want %s", tr.Peer.Short(), tr.State, want)
		}
	}
}
