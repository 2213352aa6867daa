package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
)

// FuzzOffer: whatever is offered, what reaches the decision keeps to every bound.
func FuzzOffer(f *testing.F) {
	good, err := json.Marshal(Offer{Version: 1, X: strings.Repeat("0a", 16), Label: "l",
		Summary: Summary{Root: content.Sum(nil), Size: 10, Files: 1, Bytes: 5, Tops: 1, Names: []string{"a"}}, Skipped: Skipped{Links: 1, Examples: []string{"x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, seed := range []string{
		`{"v":1}`, `[]`, `null`, `{"v":1e999}`, strings.Replace(string(good), `"files":1`, `"files":-1`, 1), strings.Replace(string(good), `"bytes":5`, `"bytes":9223372036854775807`, 1),
		strings.Replace(string(good), `"names":["a"]`, `"names":["../a"]`, 1), strings.Replace(string(good), `"tops":1`, `"tops":65`, 1), strings.ToUpper(string(good)),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var o Offer
		if err := readJSON(strings.NewReader(string(body)), maxOfferBody, &o); err != nil || o.check() != nil {
			return
		}
		if o.Files < 0 || o.Dirs < 0 || o.entries() > maxEntries || o.Bytes < 0 || o.Bytes > maxTotal || o.Size <= 0 || o.Size > maxManifest || o.Tops > o.entries() ||
			len(o.Names) > maxTopNames || len(o.Label) > maxLabel || !utf8.ValidString(o.Label) || !validX(o.X) || len(o.Skipped.Examples) > maxSkippedExamples {
			t.Fatalf("an offer of %+v", o)
		}
		for _, name := range o.Names {
			if receive.CheckName(name) != nil {
				t.Fatalf("an offer of %q", name)
			}
		}
		// It is kept in the store, and is the same when it comes back.
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var again Offer
		if err := json.Unmarshal(raw, &again); err != nil || again.check() != nil || !again.equal(&o.Summary) || again.X != o.X || again.Label != o.Label {
			t.Fatalf("%+v came back as %+v: %v", o, again, err)
		}
	})
}

// FuzzRequests: the device that a transfer is with asks and says whatever it wants. It gets bytes of what was offered, or a
// refusal, and what is known of the transfer stays within what it is.
func FuzzRequests(f *testing.F) {
	b := newBed(f)
	bob, mallory := b.device("bob", nil), identity.DeviceID{66}
	dir := f.TempDir()
	write(f, filepath.Join(dir, "d", "small"), 100)
	write(f, filepath.Join(dir, "d", "large"), 3<<20)
	b.mu.Lock()
	b.remote[mallory] = "http://127.0.0.1:9" // nobody: the offer waits
	b.mu.Unlock()
	list, err := bob.Send(context.Background(), SendRequest{Paths: []string{filepath.Join(dir, "d")}, To: []identity.DeviceID{mallory}})
	if err != nil {
		f.Fatal(err)
	}
	sent := list[0]
	total := sent.BytesTotal
	for _, seed := range []struct{ method, end, span, body string }{
		{"GET", "manifest?from=0", "", ""}, {"GET", "manifest?from=-1", "", ""}, {"GET", "file/1", "bytes=0-262143", ""}, {"GET", "file/1", "bytes=0-9223372036854775807", ""},
		{"GET", "tree/1?from=0&to=2", "", ""}, {"GET", "tree/1?from=9223372036854775806&to=9223372036854775807", "", ""}, {"POST", "batch", "", `{"entries":[2]}`},
		{"POST", "batch", "", `{"entries":[2,1]}`}, {"POST", "batch", "", `{"entries":[-1]}`}, {"POST", "state", "", `{"state":"running","bytes_done":7}`},
		{"POST", "state", "", `{"state":"running","bytes_done":-7}`}, {"POST", "state", "", `{"state":"paused"}`}, {"POST", "state", "", `{"state":"exploded"}`},
		{"GET", "file/99999999999999999999", "", ""}, {"GET", "file/../../..", "", ""},
	} {
		f.Add(seed.method, seed.end, seed.span, seed.body)
	}
	handler := bob.Handler()
	f.Fuzz(func(t *testing.T, method, end, span, body string) {
		r, err := http.NewRequest(method, "http://nigh/v1/x/"+sent.X+"/"+end, strings.NewReader(body))
		if err != nil || len(body) > maxBatchBody {
			return
		}
		r.Header.Set("Range", span)
		r.Header.Set("Test-Peer", mallory.String())
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if v := recover(); v != nil && fmt.Sprint(v) != fmt.Sprint(http.ErrAbortHandler) {
					panic(v)
				}
			}()
			handler.ServeHTTP(w, r)
		}()
		if n := int64(w.Body.Len()); n > total+1<<20 || w.Code >= 500 {
			t.Fatalf("%s %q %q %q: status %d, %d bytes", method, end, span, body, w.Code, n)
		}
		got, err := bob.Transfer(sent.ID)
		if err != nil || got.BytesDone < 0 || got.BytesDone > total || got.BytesTotal != total {
			t.Fatalf("%s %q %q %q: the transfer is %+v: %v", method, end, span, body, got, err)
		}
		if got.State.Ended() { // it said so: begin anew
			list, err := bob.Send(context.Background(), SendRequest{Paths: []string{filepath.Join(dir, "d")}, To: []identity.DeviceID{mallory}})
			if err != nil {
				t.Fatal(err)
			}
			sent = list[0]
		}
	})
}
