package session

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"nigh/agent/clean"
	"nigh/agent/identity"
)

// answering is a transport on which every request has the same answer, as it came on the wire.
type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(a)), r)
}

// FuzzHello: whatever a device answers to the first question, what is believed of it is its own ID and a name that is safe to
// show; and a redirect is followed nowhere.
func FuzzHello(f *testing.F) {
	id := identity.DeviceID{1, 2, 3}
	say := func(headers, body string) []byte { return []byte("HTTP/1.1 200 OK\r\n" + headers + "\r\n" + body) }
	f.Add(say("", `{"version":1,"name":"ada","id":"`+id.String()+`"}`))
	f.Add(say("", `{"version":1,"name":"\u001b[2J\u202eada","id":"`+id.String()+`"}`))
	f.Add(say("", `{"version":-1,"id":"`+id.String()+`"}`))
	f.Add(say("", `{"version":1,"id":"`+identity.DeviceID{9}.String()+`"}`))
	f.Add(say("Content-Length: -1\r\n", ""))
	f.Add(say("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\n\r\n"))
	f.Add([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
	f.Add(say("", strings.Repeat(" ", maxHello+1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		client := &http.Client{Transport: answering(raw), CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect }}
		h, err := askHello(t.Context(), client, id, "")
		if err != nil {
			return
		}
		if h.ID != id || h.Version < 1 || h.Name != clean.Name(h.Name, maxHelloName) {
			t.Fatalf("believed %+v", h)
		}
	})
}

// FuzzBodies: a body comes whole and within its bound, or not at all.
func FuzzBodies(f *testing.F) {
	f.Add([]byte("POST / HTTP/1.1\r\nHost: nigh\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: nigh\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: nigh\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: nigh\r\nContent-Length: 99999999999999999999\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: nigh\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nabcde"))
	const limit = 64
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		w := &refusing{header: http.Header{}}
		defer func() {
			if v := recover(); v != nil && !errors.Is(v.(error), http.ErrAbortHandler) {
				panic(v)
			}
		}()
		if !readBody(w, r, limit) {
			if w.status != http.StatusRequestEntityTooLarge {
				t.Fatalf("refused with status %d", w.status)
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) > limit || r.ContentLength > 0 && int64(len(body)) != r.ContentLength {
			t.Fatalf("a body of %d bytes, said to be of %d: %v", len(body), r.ContentLength, err)
		}
	})
}

// refusing notes the status of an answer.
type refusing struct {
	header http.Header
	status int
}

func (w *refusing) Header() http.Header         { return w.header }
func (w *refusing) WriteHeader(status int)      { w.status = status }
func (w *refusing) Write(p []byte) (int, error) { return len(p), nil }
