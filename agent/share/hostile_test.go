package share

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
)

// A hostile holder answers what it likes; nothing of it that is not checked comes through.
func TestHostileHolder(t *testing.T) {
	b := newBed(t)
	bob := b.device("bob", nil)
	var answer string
	var status int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	evil := &device{id: identity.DeviceID{6, 6, 6}, server: server}
	b.devices[evil.id] = evil
	h := content.Sum([]byte("x")).String()
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		status int
		answer string
		ask    string
		want   error // nil: taken
	}{
		{200, `{"entries":[{"name":"a","size":1},{"name":"b","dir":true,"size":0}]}`, "browse", nil},
		{200, `{"entries":[{"name":"../x"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a/b"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a\u001b[2J"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a\nb"}]}`, "browse", ErrProtocol},
		{200, "{\"entries\":[{\"name\":\"a\xff\"}]}", "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a\u202eb"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"` + long + `"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":""}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a"},{"name":"a"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"b"},{"name":"a"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a","size":-1}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a","dir":true,"size":9223372036854775807}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a","size":9223372036854775808}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"a","hash":"00"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[],"more":true}`, "browse", ErrProtocol},
		{200, `{"entries":[` + strings.Repeat(`{"name":"a"},`, MaxPage) + `{"name":"z"}]}`, "browse", ErrProtocol},
		{200, `{"entries":[{"name":"` + strings.Repeat("x", maxAnswer) + `"}]}`, "browse", ErrProtocol},
		{200, `{} {}`, "browse", ErrProtocol},
		{200, ``, "browse", ErrProtocol},
		{200, strings.Repeat("[", 1<<20), "browse", ErrProtocol},
		{302, `{}`, "browse", ErrProtocol},
		{404, `404 page not found`, "browse", ErrNotFound},
		{404, `{"code":"not_found"}`, "browse", ErrNotFound},
		{500, `{"code":"\u001b"}`, "browse", ErrProtocol},
		{429, `too many requests`, "browse", ErrBusy},
		{200, `{"shares":[{"name":"photos","state":"ready"}]}`, "of", nil},
		{200, `{"shares":[{"name":"a/b","state":"ready"}]}`, "of", ErrProtocol},
		{200, `{"shares":[{"name":"photos","state":"\u001b"}]}`, "of", ErrProtocol},
		{200, `{"shares":[{"name":"photos","files":-1,"state":"ready"}]}`, "of", ErrProtocol},
		{200, `{"shares":[` + strings.Repeat(`{"name":"a","state":"ready"},`, MaxShares) + `{"name":"a","state":"ready"}]}`, "of", ErrProtocol},
		{200, `{"results":[{"share":"s","path":"a/b","hash":"` + h + `"}]}`, "search", nil},
		{200, `{"results":[{"share":"s","path":"a/../../b"}]}`, "search", ErrProtocol},
		{200, `{"results":[{"share":"s","path":"/a"}]}`, "search", ErrProtocol},
		{200, `{"results":[{"share":"","path":"a"}]}`, "search", ErrProtocol},
		{200, `{"results":[` + strings.Repeat(`{"share":"s","path":"a"},`, MaxResults) + `{"share":"s","path":"a"}]}`, "search", ErrProtocol},
		{200, `{"results":[{"share":"s","path":"a","hash":"` + strings.Repeat("0", 63) + `1"}]}`, "hash", ErrProtocol},
	} {
		status, answer = tt.status, tt.answer
		var err error
		switch tt.ask {
		case "browse":
			_, err = bob.Browse(t.Context(), evil.id, "s", ".", "", 0)
		case "of":
			_, err = bob.Of(t.Context(), evil.id)
		default:
			var hash content.Hash
			if tt.ask == "hash" {
				hash = content.Sum([]byte("x"))
			}
			if f := bob.Search(t.Context(), []identity.DeviceID{evil.id}, "x", hash, patience, nil); len(f.Failed) > 0 {
				err = ErrProtocol
				if len(f.Results) > 0 {
					t.Errorf("%.60q: results of a device that broke the protocol", tt.answer)
				}
			}
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s %d %.60q: %v, want %v", tt.ask, tt.status, tt.answer, err, tt.want)
		}
	}
}

// raw sends a request as a device would and returns status and answer.
func (d *device) raw(from identity.DeviceID, method, path, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Test-Peer", from.String())
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestHostileAsker(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	for n := range 3 {
		files(t, dir, fmt.Sprintf("%d/a", n))
	}
	ada.share(AddRequest{Folder: dir, Name: "s"})
	x := strings.Repeat("0a", 16)
	n := byte(0)
	for _, tt := range []struct {
		path, body string
		want       int
	}{
		{"/v1/shares/browse", `{"share":"s","limit":1000000000}`, 200},
		{"/v1/shares/browse", `{"share":"s","limit":-5,"path":"0","after":"\u0000"}`, 200},
		{"/v1/shares/browse", `{"share":"s","after":"` + strings.Repeat("x", 5000) + `"}`, 200},
		{"/v1/shares/browse", `{"share":"s","after":"` + strings.Repeat("x", maxBody) + `"}`, 400},
		{"/v1/shares/browse", ``, 400},
		{"/v1/shares/browse", `{"share":"s","limit":"x"}`, 400},
		{"/v1/shares/search", `{"query":""}`, 400},
		{"/v1/shares/search", `{"query":" "}`, 400},
		{"/v1/shares/search", `{"query":"` + strings.Repeat("a ", maxWords+1) + `"}`, 400},
		{"/v1/shares/search", `{"query":"` + strings.Repeat("a", MaxQuery+1) + `"}`, 400},
		{"/v1/shares/search", `{"query":"a","limit":-1}`, 200},
		{"/v1/shares/get", `{"x":"` + x + `","share":"s","path":"0/a"}`, 202},
		{"/v1/shares/get", `{"x":"","share":"s","path":"0/a"}`, 400},
		{"/v1/shares/get", `{"x":"` + strings.ToUpper(x) + `","share":"s"}`, 400},
		{"/v1/shares/get", `{"x":"` + x + `","share":"s","path":"0/../../x"}`, 404},
		{"/v1/shares/get", `{"x":"` + x + `","share":"../s"}`, 404},
		{"/v1/shares/get", `{"x":"` + x + `","hash":"` + strings.Repeat("ab", 32) + `"}`, 404},
		{"/v1/shares/none", `{}`, 404},
	} {
		n++ // each by another device: this is not about their rate
		if got, body := ada.raw(identity.DeviceID{1, n}, "POST", tt.path, tt.body); got != tt.want {
			t.Errorf("%s %.60s: %d %s, want %d", tt.path, tt.body, got, body, tt.want)
		}
	}
	// Without a proved caller nothing exists.
	r := httptest.NewRequest("GET", "/v1/shares", nil)
	w := httptest.NewRecorder()
	ada.Handler().ServeHTTP(w, r)
	if w.Code != 404 || strings.TrimSpace(w.Body.String()) != `{"code":"not_found"}` {
		t.Errorf("nobody gets %d %s", w.Code, w.Body)
	}
}

// A device that floods costs itself only.
func TestSearchFlood(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := t.TempDir()
	files(t, dir, "film")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	flooder := identity.DeviceID{9}
	var wait sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for range 10 {
		wait.Go(func() {
			for range 100 {
				code, _ := ada.raw(flooder, "POST", "/v1/shares/search", `{"query":"film"}`)
				mu.Lock()
				codes[code]++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	t.Logf("answers to a flood of 1000: %v", codes)
	if codes[200] > 100 || codes[200] == 0 || codes[200]+codes[429] != 1000 {
		t.Errorf("a flood of 1000 searches was answered %v", codes)
	}
	if f := bob.Search(t.Context(), []identity.DeviceID{ada.id}, "film", content.Hash{}, patience, nil); len(f.Results) != 1 {
		t.Errorf("another device meanwhile: %+v", f)
	}
	// The devices that are remembered are bounded.
	for i := range 3 * maxCallers {
		ada.raw(identity.DeviceID{byte(i), byte(i >> 8), 7}, "GET", "/v1/shares", "")
	}
	ada.gate.mu.Lock()
	defer ada.gate.mu.Unlock()
	if len(ada.gate.callers) > 2*maxCallers {
		t.Errorf("%d devices are remembered", len(ada.gate.callers))
	}
}

// A device that does not answer costs the time it is given, and is named.
func TestSlowDeviceIsNamed(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := t.TempDir()
	files(t, dir, "film")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	held := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(held)
	slow := &device{id: identity.DeviceID{5}, server: server}
	b.devices[slow.id] = slow
	began := time.Now()
	var first []Result
	f := bob.Search(t.Context(), []identity.DeviceID{slow.id, ada.id, {4, 4}}, "film", content.Hash{}, 2*time.Second, func(f Found) {
		first = append(first, f.Results...)
	})
	if len(first) != 1 {
		t.Errorf("%d results were told as they came", len(first))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if len(f.Results) != 1 || !slices.Equal(f.Failed, []identity.DeviceID{slow.id, {4, 4}}) {
		t.Errorf("%+v", f)
	}
}

// Too many things at once are not expected: the oldest make way.
func TestExpectedIsBounded(t *testing.T) {
	b := newBed(t)
	ada, bob := b.device("ada", nil), b.device("bob", nil)
	dir := t.TempDir()
	files(t, dir, "film")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	first := ""
	for i := range maxExpected + 1 {
		ada.gate.mu.Lock()
		clear(ada.gate.callers)
		ada.gate.mu.Unlock()
		x, err := bob.Get(t.Context(), Want{Peer: ada.id, Share: "s", Path: "film", Into: "/x"})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = x
		}
	}
	if _, ok := bob.Expected(ada.id, first); ok || len(bob.expected) != maxExpected {
		t.Errorf("%d expected", len(bob.expected))
	}
}

// Full: the rest is served, and it is said.
func TestFullShare(t *testing.T) {
	b := newBed(t)
	ada := b.device("ada", nil)
	dir := t.TempDir()
	files(t, dir, "a", "b", "c", "d/e", "d/f")
	ada.Pause(true)
	i, err := ada.Add(AddRequest{Folder: dir, Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	ada.await("s", func(i Info) bool { return i.State == Ready })
	ada.Shares.mu.Lock()
	f := ada.folders[i.ID]
	ada.Shares.mu.Unlock()
	// As if the share had as many entries as it may have.
	root, _, err := f.openRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	files(t, dir, "new")
	c := &scanner{ctx: context.Background(), s: ada.Shares, f: f, rec: f.record, root: root, removed: map[string]bool{}, seen: map[string]bool{}, n: MaxEntries}
	if _, err := c.dir("", false, false); err != nil || !c.full || len(c.batch) != 0 {
		t.Errorf("%v, full %v, %d changes", err, c.full, len(c.batch))
	}
}

func FuzzDecode(f *testing.F) {
	e := entry{size: 5, mtime: -1, ctime: 2, ino: 3, hash: content.Sum(nil)}
	raw, _ := json.Marshal(e.encode())
	f.Add(raw)
	f.Add([]byte(`""`))
	f.Add([]byte(`"AAAA`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decode(raw)
		if err != nil {
			return
		}
		again, err := json.Marshal(e.encode())
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(again); err != nil || back != e {
			t.Errorf("%+v came back as %+v, %v", e, back, err)
		}
	})
}

// FuzzRequest: whatever is asked, only what is in the index is ever offered, and answers are small.
func FuzzRequest(f *testing.F) {
	b := newBed(f)
	ada := b.device("ada", nil)
	dir := f.TempDir()
	files(f, dir, "a/b/c", "Größe", ".hidden")
	ada.share(AddRequest{Folder: dir, Name: "s"})
	x := strings.Repeat("0a", 16)
	for _, seed := range []string{`{"share":"s","path":"a/b"}`, `{"share":"s","path":"../x","x":"` + x + `"}`, `{"query":"größe c"}`,
		`{"x":"` + x + `","share":"s","path":".hidden"}`, `{"x":"` + x + `","hash":"` + content.Sum([]byte("Größe")).String() + `"}`, `{"share":"s","path":"a","after":"\u0000","limit":-1}`} {
		for kind := range byte(3) {
			f.Add(kind, seed)
		}
	}
	known := map[string]bool{".": true, "a": true, "a/b": true, "a/b/c": true, "Größe": true}
	f.Fuzz(func(t *testing.T, kind byte, body string) {
		ada.gate.mu.Lock()
		clear(ada.gate.callers)
		ada.gate.mu.Unlock()
		path := []string{"/v1/shares/browse", "/v1/shares/search", "/v1/shares/get"}[kind%3]
		code, answer := ada.raw(identity.DeviceID{1}, "POST", path, body)
		if code >= 500 && code != http.StatusServiceUnavailable || len(answer) > 4096 || bytes.Contains([]byte(answer), []byte("hidden")) {
			t.Errorf("%s %q: %d %s", path, body, code, answer)
		}
		ada.mu.Lock()
		offers := ada.offers
		ada.offers = nil
		ada.mu.Unlock()
		for _, o := range offers {
			if !known[o.Path] || o.Root != dir {
				t.Errorf("%q made an offer of %q in %s", body, o.Path, o.Root)
			}
		}
	})
}

// FuzzMatch: words find what has them, whatever the case and Unicode form.
func FuzzMatch(f *testing.F) {
	f.Add("gro\u0308SSE jpg", "Fotos/GRÖSSE", "a.JPG")
	f.Add("a", "", "")
	f.Fuzz(func(t *testing.T, text, dir, name string) {
		q, err := parseQuery(text)
		if err != nil {
			return
		}
		m := matcher{query: q}
		got := m.match(&visit{dir: []byte(dir), name: []byte(name)})
		if again := m.match(&visit{dir: []byte(dir), name: []byte(name)}); again != got {
			t.Error("the second look differs")
		}
		want, inName := true, false
		for word := range strings.FieldsSeq(receive.Fold(text)) {
			named := strings.Contains(receive.Fold(name), word)
			inName = inName || named
			want = want && (named || strings.Contains(receive.Fold(dir), word))
		}
		if got != (want && inName) {
			t.Errorf("%q in %q of %q: %v", text, name, dir, got)
		}
	})
}
