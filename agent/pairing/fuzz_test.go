package pairing

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/store"
	"nigh/agent/trust"
)

func FuzzSetupCode(f *testing.F) {
	f.Add(SetupCode{}.Text())
	f.Add(SetupCode{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}.Text())
	f.Add("0181-0181-0181-0181-1")
	f.Add(strings.Repeat("-", 100))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseSetupCode(text)
		if err != nil {
			if !errors.Is(err, ErrBadCode) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseSetupCode(c.Text()); err != nil || again != c {
			t.Fatalf("%q reads as a code that is written %q: %v", text, c.Text(), err)
		}
	})
}

// FuzzMessages sends four messages of any content in any order on one connection:
// nothing may panic, and nobody may become trusted without a yes.
func FuzzMessages(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, []byte(`{"v":1,"name":"x","commitment":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}`+"\n"+
		`{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}`+"\n"+`{"mac":null,"cancel":true}`+"\n"+`{"v":1,"proof":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}`))
	f.Add([]byte{0, 0, 1, 1}, []byte("{}\n[]\n{\"nonce\":-1}\n\"\""))
	f.Add([]byte{3, 3, 3, 3}, []byte("null\nnull\n\n{\"v\":1e999}"))
	s, err := store.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	book, err := trust.Open(s)
	if err != nil {
		f.Fatal(err)
	}
	names := []string{"commit", "reveal", "confirm", "code"}
	f.Fuzz(func(t *testing.T, order, bodies []byte) {
		e, err := New(Config{Self: identity.DeviceID{9}, Store: s, Book: book, Name: func(identity.DeviceID, bool) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		e.limits.hold = 0
		e.keeper.opens = e.keeper.opens.Add(-lockMax)
		done := make(chan struct{})
		b := session.Binding{Value: [32]byte{7}, Key: identity.PublicKey{3}, Done: done}
		lines := bytes.Split(bodies, []byte("\n"))
		for i, what := range order[:min(len(order), 8)] {
			var body []byte
			if i < len(lines) {
				body = lines[i]
			}
			r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(bytes.NewReader(body)))
			serve := []func(*http.Request, session.Binding, identity.DeviceID) (any, error){e.serveCommit, e.serveReveal, e.serveConfirm, e.serveCode}[int(what)%len(names)]
			_, _ = serve(r, b, b.Key.ID())
		}
		if n := len(book.List()); n != 0 {
			t.Fatalf("%d devices are trusted", n)
		}
		close(done)
		e.mu.Lock()
		e.ended = true
		e.mu.Unlock()
		e.end()
		e.work.Wait()
	})
}
