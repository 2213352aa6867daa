package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
)

// friendsRequests are those of a device that is trusted and should not be.
func friendsRequests() []Attack {
	x := newX()
	message := func(pairs ...any) Offer {
		return Offer{"v": 1, "id": newX(), "text": "hello"}.With(pairs...)
	}
	bad := func(name, method, path string, bodies map[string]any) Attack {
		return Attack{Name: name, As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
			c, err := p.Client(ctx)
			if err != nil {
				return "", err
			}
			defer c.Close()
			for what, body := range bodies {
				status, _, err := c.Do(method, path, body)
				if err != nil {
					return "", fmt.Errorf("%s: %w", what, err)
				}
				if status/100 != 4 {
					return "", fmt.Errorf("%s: status %d", what, status)
				}
			}
			return fmt.Sprintf("%d requests refused", len(bodies)), nil
		}}
	}
	all := []Attack{
		bad("message/none of them is one", http.MethodPost, "/v1/msg", map[string]any{
			"empty": message("text", ""), "one byte too long": message("text", strings.Repeat("x", 32<<10+1)),
			"of 900 KB": message("text", strings.Repeat("x", 900_000)), "with NUL": message("text", "a\x00b"),
			"no id": message("id", nil), "an id of zeros": message("id", strings.Repeat("0", 32)), "another version": message("v", 2), "an id that is a path": message("id", "../../x"),
		}),
		bad("share/out of the share", http.MethodPost, "/v1/shares/browse", map[string]any{
			"parents": Offer{"share": "x", "path": "../../.."}, "absolute": Offer{"share": "x", "path": "/etc"}, "the share's name": Offer{"share": "../x", "path": ""},
			"NUL": Offer{"share": "x", "path": "a\x00b"}, "long": Offer{"share": "x", "path": strings.Repeat("a/", 5000)},
		}),
		bad("share/getting what is no file of one", http.MethodPost, "/v1/shares/get", map[string]any{
			"parents": Offer{"x": x, "share": "x", "path": "../../etc/passwd"}, "no name": Offer{"share": "x", "path": "y"},
			"a name that is a path": Offer{"x": "../../x", "share": "x", "path": "y"}, "a hash of another length": Offer{"x": x, "hash": "00"},
		}),
		bad("share/a question without bounds", http.MethodPost, "/v1/shares/search", map[string]any{
			"long": Offer{"query": strings.Repeat("x", 10_000)}, "words": Offer{"query": strings.Repeat("x ", 120)}, "nothing": Offer{"query": ""},
		}),
		bad("transfer/states of nothing", http.MethodPost, "/v1/x/"+x+"/state", map[string]any{
			"done": Offer{"state": "done"}, "unknown": Offer{"state": "exploded"}, "negative": Offer{"state": "running", "bytes_done": -1},
		}),
		{Name: "message/replay", As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
			c, err := p.Client(ctx)
			if err != nil {
				return "", err
			}
			defer c.Close()
			m := message("text", "replayed "+newX())
			for range 5 {
				if status, _, err := c.Do(http.MethodPost, "/v1/msg", m); err != nil || status != http.StatusOK {
					return "", fmt.Errorf("status %d: %w", status, err)
				}
			}
			return "5 times answered; the caller counts how often " + m["text"].(string) + " is kept", nil
		}},
		{Name: "message/without end", As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
			c, err := p.Client(ctx)
			if err != nil {
				return "", err
			}
			defer c.Close()
			// Each is as long as may be: the bound on bytes is met first.
			long := strings.Repeat("x", 32<<10)
			for n := range 400 {
				status, _, err := c.Do(http.MethodPost, "/v1/msg", message("text", long))
				switch {
				case err != nil:
					return "", err
				case status == http.StatusTooManyRequests:
					return fmt.Sprintf("refused after %d messages", n), nil
				case status != http.StatusOK:
					return "", fmt.Errorf("status %d", status)
				}
			}
			return "", errors.New("400 messages of 32 KiB were taken")
		}},
		// The side that is to serve asks instead, and says the first word, where the target is to.
		{Name: "order/asking where one is to answer", As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
			conn, err := p.Secure(ctx, Serving, nil)
			if err != nil {
				return "", err
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "POST /v1/offer HTTP/1.1\r\nHost: nigh\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
				return "", err
			}
			// The target wants to ask those that it trusts, and finds words where there may be none.
			b, err := io.ReadAll(io.LimitReader(conn, 64<<10))
			if strings.HasPrefix(string(b), "HTTP/") || errors.Is(err, os.ErrDeadlineExceeded) {
				return "", fmt.Errorf("the target answered %.100q: %w", b, err)
			}
			return fmt.Sprintf("asked %.40q and ended it: %v", b, err), nil
		}},
	}
	for _, path := range []string{"/v1/offer", "/v1/msg", "/v1/x/" + x + "/state", "/v1/shares/browse", "/v1/shares/get"} {
		all = append(all, wrongTypes(Traitor, path))
	}
	return all
}

// hello answers who we are.
func (p *Peer) hello(w io.Writer) bool {
	return Reply(w, http.StatusOK, fmt.Appendf(nil, `{"version":1,"id":%q}`, p.ID)) == nil
}

// hellos are answers to the first question that the target asks a device which connected.
func hellos() []Attack {
	answers := func(name string, answer func(p *Peer, w io.Writer) (took int)) Attack {
		return Attack{Name: "hello/" + name, As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
			asked := make(chan int, 64)
			var others atomic.Int32
			s, err := p.Serve(ctx, func(w io.Writer, q Question) bool {
				if q.URL.Path != "/v1/hello" {
					others.Add(1)
					return false
				}
				n := answer(p, w)
				select {
				case asked <- n:
				default:
				}
				// What the target thinks of it shows in what it does with the connection.
				return true
			})
			if err != nil {
				return "", err
			}
			defer s.Close()
			select {
			case n := <-asked:
				if n > 16<<20 {
					return "", fmt.Errorf("the target read %d bytes", n)
				}
				if others.Load() > 0 {
					return "", fmt.Errorf("the target asked for more on %d connections", others.Load())
				}
				return fmt.Sprintf("asked once, with an answer of %d bytes", n), nil
			case <-ctx.Done():
				return "", fmt.Errorf("the target did not ask: %w", ctx.Err())
			}
		}}
	}
	say := func(text string) func(*Peer, io.Writer) int {
		return func(_ *Peer, w io.Writer) int { n, _ := io.WriteString(w, text); return n }
	}
	body := func(text string, headers ...string) func(*Peer, io.Writer) int {
		return func(_ *Peer, w io.Writer) int {
			_ = Reply(w, http.StatusOK, []byte(text), headers...)
			return len(text)
		}
	}
	const zeros = "7Q4K-M2XD"
	return []Attack{
		answers("another device's ID", func(p *Peer, w io.Writer) int {
			other, err := New(p.Target)
			if err == nil {
				other.hello(w)
			}
			return 0
		}),
		answers("no ID", body(`{}`)),
		answers("an ID that is none", body(`{"version":1,"id":"`+zeros+`"}`)),
		answers("an array", body(`[]`)),
		answers("a version of 2^63", body(`{"version":9223372036854775808}`)),
		answers("1 MiB", body(strings.Repeat(" ", 1<<20)+"{}")),
		answers("compressed", body("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "Content-Encoding: gzip")),
		answers("a redirect", say("HTTP/1.1 302 Found\r\nLocation: http://nigh/v1/offer\r\nContent-Length: 0\r\n\r\n")),
		answers("a redirect to another host", say("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:22/\r\nContent-Length: 0\r\n\r\n")),
		answers("no HTTP", say("SSH-2.0-OpenSSH_9.2\r\n")),
		answers("a negative length", say("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")),
		answers("a length of 2^63", say("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n")),
		answers("status 99999999999", say("HTTP/1.1 99999999999 OK\r\n\r\n")),
		answers("switching protocols", say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")),
		answers("a header without end", func(_ *Peer, w io.Writer) int {
			n, _ := io.WriteString(w, "HTTP/1.1 200 OK\r\nX: ")
			return n + endless(w, "x", 64<<20)
		}),
		answers("headers without end", func(_ *Peer, w io.Writer) int {
			n, _ := io.WriteString(w, "HTTP/1.1 200 OK\r\n")
			return n + endless(w, "A: b\r\n", 64<<20)
		}),
		answers("early hints without end", func(_ *Peer, w io.Writer) int {
			return endless(w, "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n", 64<<20)
		}),
		answers("a body without end", func(_ *Peer, w io.Writer) int {
			n, _ := io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			return n + endless(w, "4000\r\n"+strings.Repeat(" ", 0x4000)+"\r\n", 64<<20)
		}),
	}
}
