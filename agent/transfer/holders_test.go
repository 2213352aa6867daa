package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// shelf is what a device of the bed shares with everybody.
type shelf struct {
	mu    sync.Mutex
	files map[content.Hash]string
	gone  bool
}

func (s *shelf) put(t testing.TB, path string) content.Hash {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := content.Sum(raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[content.Hash]string{}
	}
	s.files[h] = path
	return h
}

func (s *shelf) held(_ context.Context, _ identity.DeviceID, of []content.Hash) (list []Held, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range of {
		if path := s.files[h]; path != "" && !s.gone {
			list = append(list, Held{Hash: h, Tree: Tree{Root: filepath.Dir(path), Path: filepath.Base(path), Hash: hashAlways(h)},
				Still: func() bool { s.mu.Lock(); defer s.mu.Unlock(); return !s.gone }})
		}
	}
	return list, nil
}

func hashAlways(h content.Hash) func(string, *unix.Stat_t) content.Hash {
	return func(string, *unix.Stat_t) content.Hash { return h }
}

// friend makes a device of the bed that trusts all others, and has them near.
func (b *bed) friend(name string, s *shelf, more func(*Config)) *device {
	return b.device(name, func(c *Config) {
		acceptAll(c)
		c.Trusted = func(identity.DeviceID) bool { return true }
		c.Near = func() []identity.DeviceID { return b.others(c.Self) }
		if s != nil {
			c.Held = s.held
		}
		if more != nil {
			more(c)
		}
	})
}

func (b *bed) others(self identity.DeviceID) (ids []identity.DeviceID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.devices {
		if id != self {
			ids = append(ids, id)
		}
	}
	return ids
}

// get has holder offer a file of known content to d, as share does.
func (d *device) get(holder *device, path string, h content.Hash) {
	d.bed.t.Helper()
	_, err := holder.Send(context.Background(), SendRequest{To: []identity.DeviceID{d.id},
		Tree: &Tree{Root: filepath.Dir(path), Path: filepath.Base(path), Hash: hashAlways(h)}})
	if err != nil {
		d.bed.t.Fatal(err)
	}
}

// share returns what came from a device.
func shareOf(t Transfer, from *device) HolderShare {
	for _, h := range t.Holders {
		if h.Peer == from.id {
			return h
		}
	}
	return HolderShare{}
}

// counter counts the bulk bytes of a device, and holds them back after some until others may go on.
type counter struct {
	sent atomic.Int64
	hold int64
	free chan struct{} // closed when all may go on; nil does not hold
}

func (c *counter) see(r *http.Request, p []byte) ([]byte, error) {
	if n := c.sent.Add(int64(len(p))); c.free != nil && n > c.hold {
		select {
		case <-c.free:
		case <-r.Context().Done():
		}
	}
	return p, nil
}

// on calls fn once when the device has sent n bytes.
func (c *counter) on(n int64, fn func()) func(*http.Request, []byte) ([]byte, error) {
	once := sync.OnceFunc(fn)
	return func(r *http.Request, p []byte) ([]byte, error) {
		if c.sent.Add(int64(len(p))) >= n {
			once()
		}
		return p, nil
	}
}

const filmSize = 24<<20 + 4711

func TestTwoHoldersBringOneFile(t *testing.T) {
	b := newBed(t)
	var shelves [2]shelf
	ada, bob, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("eve", nil, nil)
	film := write(t, filepath.Join(t.TempDir(), "film"), filmSize)
	h := shelves[1].put(t, film)
	// Ada stops until bob has brought a part.
	a, o := &counter{hold: 4 << 20, free: make(chan struct{})}, &counter{}
	ada.tapped(a.see)
	bob.tapped(o.on(6<<20, func() { close(a.free) }))
	eve.get(ada, film, h)
	got := eve.untilState(Done)
	same(t, film, filepath.Join(eve.inbox, "film"))
	if x, y := shareOf(got, ada), shareOf(got, bob); x.Bytes == 0 || y.Bytes < 6<<20 || x.Bytes+y.Bytes != filmSize || x.Dropped+y.Dropped != "" {
		t.Errorf("from ada %+v, from bob %+v", x, y)
	}
	if got.Sent > filmSize+filmSize/4 {
		t.Errorf("%d bytes moved for %d", got.Sent, int64(filmSize))
	}
}

func TestLyingHolderIsDroppedAndNamed(t *testing.T) {
	b := newBed(t)
	var shelves [2]shelf
	ada, bob, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("eve", nil, nil)
	film := write(t, filepath.Join(t.TempDir(), "film"), filmSize)
	h := shelves[1].put(t, film)
	fake := write(t, filepath.Join(t.TempDir(), "fake"), filmSize)
	raw, err := os.ReadFile(fake)
	if err != nil {
		t.Fatal(err)
	}
	a := &counter{hold: 2 << 20, free: make(chan struct{})}
	ada.tapped(a.see)
	// Bob's groups have leaves that fit them, and are of another file.
	lied := sync.OnceFunc(func() { close(a.free) })
	bob.tapped(func(r *http.Request, p []byte) ([]byte, error) {
		if len(p) <= content.HashSize {
			return p, nil
		}
		n := len(p) - content.HashSize
		q := append([]byte(nil), raw[:n]...)
		group := 0
		var from int64
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			group = int(from / content.MinGroup)
		}
		_, full := content.GroupBounds(filmSize, group)
		if int64(n) == full {
			leaf := content.LeafOf(q, filmSize, group)
			q = append(q, leaf[:]...)
		} else {
			q = append(q, p[n:]...)
		}
		lied()
		return q, nil
	})
	eve.get(ada, film, h)
	got := eve.untilState(Done)
	same(t, film, filepath.Join(eve.inbox, "film"))
	if s := shareOf(got, bob); s.Dropped != "verify" || s.Bytes != 0 {
		t.Errorf("bob: %+v", s)
	}
	if s := shareOf(got, ada); s.Bytes != filmSize || s.Dropped != "" {
		t.Errorf("ada: %+v", s)
	}
}

func TestLyingPeerIsDroppedForAHolder(t *testing.T) {
	b := newBed(t)
	var shelves [2]shelf
	ada, bob, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("eve", nil, nil)
	film := write(t, filepath.Join(t.TempDir(), "film"), filmSize)
	h := shelves[1].put(t, film)
	ada.tapped(func(_ *http.Request, p []byte) ([]byte, error) {
		q := append([]byte(nil), p...)
		q[0]++
		return q, nil
	})
	_ = bob
	eve.get(ada, film, h)
	got := eve.untilState(Done)
	same(t, film, filepath.Join(eve.inbox, "film"))
	if s := shareOf(got, ada); s.Dropped != "verify" || s.Bytes != 0 {
		t.Errorf("ada: %+v", s)
	}
}

func TestAnotherHolderGoesOn(t *testing.T) {
	b := newBed(t)
	var shelves [2]shelf
	ada, bob, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("eve", nil, nil)
	dir := t.TempDir()
	film := write(t, filepath.Join(dir, "films", "film"), filmSize)
	small := write(t, filepath.Join(dir, "films", "small"), 1000)
	empty := write(t, filepath.Join(dir, "films", "zero"), 0)
	hashes := map[string]content.Hash{}
	for _, p := range []string{film, small, empty} {
		hashes["films/"+filepath.Base(p)] = shelves[1].put(t, p)
	}
	bob.cut(true)
	ada.after(3<<20, func() { ada.cut(true) })
	_, err := ada.Send(context.Background(), SendRequest{To: []identity.DeviceID{eve.id},
		Tree: &Tree{Root: dir, Path: "films", Hash: func(p string, _ *unix.Stat_t) content.Hash { return hashes[p] }}})
	if err != nil {
		t.Fatal(err)
	}
	eve.until("without its peer", func(t Transfer) bool { return t.State == Queued && t.ErrorCode == "peer_gone" && t.BytesDone > 0 })
	// Eve restarts; then bob comes, and ada never does.
	eve.halt()
	eve.start()
	bob.cut(false)
	eve.Wake(bob.id)
	got := eve.untilState(Done)
	same(t, filepath.Join(dir, "films"), filepath.Join(eve.inbox, "films"))
	if s := shareOf(got, bob); s.Bytes == 0 {
		t.Errorf("%+v", got.Holders)
	}
}

func TestVanishedHolderCostsNothing(t *testing.T) {
	b := newBed(t)
	var shelves [3]shelf
	ada, bob, cyd, eve := b.friend("ada", &shelves[0], nil), b.friend("bob", &shelves[1], nil), b.friend("cyd", &shelves[2], nil), b.friend("eve", nil, nil)
	film := write(t, filepath.Join(t.TempDir(), "film"), filmSize)
	h := shelves[1].put(t, film)
	shelves[2].put(t, film)
	a, o := &counter{hold: 2 << 20, free: make(chan struct{})}, &counter{}
	ada.tapped(a.see)
	// Bob and ada vanish when bob has brought something; cyd brings the rest.
	bob.tapped(o.on(3<<20, func() {
		bob.cut(true)
		ada.cut(true)
		close(a.free)
	}))
	_ = cyd
	eve.get(ada, film, h)
	got := eve.untilState(Done)
	same(t, film, filepath.Join(eve.inbox, "film"))
	if s := shareOf(got, cyd); s.Bytes == 0 {
		t.Errorf("%+v", got.Holders)
	}
	eve.mu.Lock()
	defer eve.mu.Unlock()
	for _, old := range eve.history {
		if old.State == Queued && old.BytesDone > 0 && old.ID == got.ID {
			t.Errorf("it stood still: %+v", old)
		}
	}
}

func TestOneFileToManyLeavesTheSenderOnce(t *testing.T) {
	b := newBed(t)
	ada := b.friend("ada", nil, nil)
	var to []identity.DeviceID
	var others []*device
	for i := range 5 {
		d := b.friend(fmt.Sprintf("receiver %d", i), nil, nil)
		others, to = append(others, d), append(to, d.id)
	}
	var sent counter
	ada.tapped(sent.see)
	film := write(t, filepath.Join(t.TempDir(), "film"), filmSize)
	if _, err := ada.Send(context.Background(), SendRequest{Paths: []string{film}, To: to}); err != nil {
		t.Fatal(err)
	}
	for _, d := range others {
		got := d.untilState(Done)
		same(t, film, filepath.Join(d.inbox, "film"))
		var sum int64
		for _, h := range got.Holders {
			sum += h.Bytes
		}
		if sum != filmSize {
			t.Errorf("%d bytes from all: %+v", sum, got.Holders)
		}
	}
	if n := sent.sent.Load(); n > 5*filmSize/2 {
		t.Errorf("the sender sent %d bytes, %.2f times the file", n, float64(n)/filmSize)
	} else {
		t.Logf("the sender sent %.2f times the file", float64(n)/filmSize)
	}
	ada.until("all done", func(Transfer) bool {
		for _, x := range ada.Transfers() {
			if x.State != Done {
				return false
			}
		}
		return true
	})
	// Who is late gets it from those that have it.
}

func TestReceiversWithoutTrustAskTheSenderOnly(t *testing.T) {
	b := newBed(t)
	ada := b.friend("ada", nil, nil)
	wary := func(c *Config) {
		c.Trusted = func(id identity.DeviceID) bool { return id == ada.id }
		c.Near = func() []identity.DeviceID { return []identity.DeviceID{ada.id} }
	}
	bob, eve := b.friend("bob", nil, wary), b.friend("eve", nil, wary)
	film := write(t, filepath.Join(t.TempDir(), "film"), 5<<20)
	if _, err := ada.Send(context.Background(), SendRequest{Paths: []string{film}, To: []identity.DeviceID{bob.id, eve.id}}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{bob, eve} {
		got := d.untilState(Done)
		same(t, film, filepath.Join(d.inbox, "film"))
		if len(got.Holders) != 1 || got.Holders[0].Peer != ada.id {
			t.Errorf("%+v", got.Holders)
		}
	}
}

// post asks a device as another one does.
func (d *device) ask(to *device, method, path string, body any, answer any) int {
	d.bed.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	r, err := http.NewRequest(method, "http://nigh"+path, bytes.NewReader(raw))
	if err != nil {
		d.bed.t.Fatal(err)
	}
	resp, err := d.clientTo(to.id).Do(r)
	if err != nil {
		d.bed.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer != nil && resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			d.bed.t.Fatal(err)
		}
	}
	return resp.StatusCode
}

// TestHaveTellsNothing asks as a device that was not sent a content, or may not have it, and knows its hash and its name in the swarm of
// others.
func TestHaveTellsNothing(t *testing.T) {
	b := newBed(t)
	var shelf shelf
	var friends sync.Map
	trusts := func(c *Config) {
		c.Trusted = func(id identity.DeviceID) bool { _, ok := friends.Load(id); return ok }
	}
	ada := b.friend("ada", &shelf, trusts)
	bob, cyd := b.friend("bob", nil, nil), b.friend("cyd", nil, nil)
	friends.Store(bob.id, true)
	film := write(t, filepath.Join(t.TempDir(), "film"), 3<<20)
	shared := shelf.put(t, film)
	sent := write(t, filepath.Join(t.TempDir(), "sent"), 3<<20)
	list, err := bob.Send(context.Background(), SendRequest{Paths: []string{sent}, To: []identity.DeviceID{ada.id, cyd.id}})
	if err != nil || len(list) != 2 {
		t.Fatal(err)
	}
	ada.untilState(Done)
	cyd.untilState(Done)
	raw, err := os.ReadFile(sent)
	if err != nil {
		t.Fatal(err)
	}
	got := content.Sum(raw)
	bob.Engine.mu.Lock()
	token := bob.all[list[0].ID].rec.Offer.Swarm
	bob.Engine.mu.Unlock()

	// What was received is not told by its hash, what is shared is, to those who are trusted.
	var a haveAnswer
	if code := bob.ask(ada, "POST", "/v1/have", haveRequest{Version: 1, Roots: []content.Hash{got, shared}}, &a); code != 200 || a.Roots.has(0) || !a.Roots.has(1) {
		t.Errorf("%d %+v", code, a)
	}
	if code := bob.ask(ada, "GET", "/v1/b/"+got.String(), nil, nil); code != 404 {
		t.Errorf("what was received is served by its hash: %d", code)
	}
	for _, q := range []haveRequest{{Version: 1, Roots: []content.Hash{shared}}, {Version: 1, Name: swarmName(token, cyd.id, ada.id)}} {
		if code := cyd.ask(ada, "POST", "/v1/have", q, nil); code != 404 {
			t.Errorf("one who is not trusted asks %+v: %d", q, code)
		}
	}
	if code := cyd.ask(ada, "GET", "/v1/b/"+shared.String(), nil, nil); code != 404 {
		t.Errorf("one who is not trusted gets %d", code)
	}
	// A name is between two devices, and of no use to a third.
	friends.Store(cyd.id, true)
	for _, name := range []string{token, swarmName(token, bob.id, ada.id), swarmName(token, ada.id, cyd.id), strings.Repeat("0", 32)} {
		var a haveAnswer
		if code := cyd.ask(ada, "POST", "/v1/have", haveRequest{Version: 1, Name: name, Entries: []int{0}}, &a); code != 200 || a.Named || len(a.Groups) > 0 {
			t.Errorf("%s: %d %+v", name, code, a)
		}
		if code := cyd.ask(ada, "GET", "/v1/h/"+name+"/file/0", nil, nil); code != 404 {
			t.Errorf("%s: %d", name, code)
		}
	}
	a = haveAnswer{}
	name := swarmName(token, cyd.id, ada.id)
	if code := cyd.ask(ada, "POST", "/v1/have", haveRequest{Version: 1, Name: name, Entries: []int{0, 7, -1}}, &a); code != 200 || !a.Named || len(a.Groups) != 1 {
		t.Errorf("%d %+v", code, a)
	}
	// A grant ends with the share.
	shelf.mu.Lock()
	shelf.gone = true
	shelf.mu.Unlock()
	if code := bob.ask(ada, "GET", "/v1/b/"+shared.String(), nil, nil); code != 404 {
		t.Errorf("after the end of the share: %d", code)
	}
	for _, bad := range []any{haveRequest{}, haveRequest{Version: 1, Roots: make([]content.Hash, haveRoots+1)}, "x"} {
		if code := bob.ask(ada, "POST", "/v1/have", bad, nil); code/100 != 4 {
			t.Errorf("%T: %d", bad, code)
		}
	}
}
