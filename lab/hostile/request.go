package hostile

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
)

// said is an attack by one text on a connection, that one of the statuses answers, 0 being the end of the connection.
func said(name, text string, want ...int) Attack {
	return Attack{Name: name, Run: func(ctx context.Context, p *Peer) (string, error) {
		status, err := p.Say(ctx, text)
		if err == nil && !slices.Contains(want, status) {
			err = fmt.Errorf("answered with status %d, want one of %v", status, want)
		}
		return fmt.Sprintf("status %d", status), err
	}}
}

// requests break HTTP after the key was proved.
func requests() []Attack {
	post := func(headers, body string) string {
		return "POST /v1/pair/reveal HTTP/1.1\r\nHost: nigh\r\n" + headers + "\r\n" + body
	}
	all := []Attack{
		said("request/another host", "GET /v1/hello HTTP/1.1\r\nHost: example.org\r\n\r\n", 421),
		said("request/another host in the URL", "GET http://example.org/v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n", 421),
		said("request/no host", "GET /v1/hello HTTP/1.0\r\n\r\n", 421),
		said("request/two hosts", "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\nHost: nigh\r\n\r\n", 400),
		said("request/HTTP 2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421, 505, 400, 0),
		said("request/HTTP 9.9", "GET /v1/hello HTTP/9.9\r\nHost: nigh\r\n\r\n", 505, 400),
		said("request/upgrade to h2c", "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 200),
		said("request/as a proxy", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: nigh\r\n\r\n", 400, 404, 405, 421),
		said("request/an unknown method", "BREW /v1/hello HTTP/1.1\r\nHost: nigh\r\n\r\n", 404, 405),
		said("request/a path out of the root", "GET /../../etc/passwd HTTP/1.1\r\nHost: nigh\r\n\r\n", 301, 307, 400, 404),
		said("request/a path with NUL", "GET /v1/hello\x00 HTTP/1.1\r\nHost: nigh\r\n\r\n", 400),
		said("request/binary", "\x00\x01\x02\x03\xff\xfe\r\n\r\n", 400, 0),
		said("request/an empty header name", "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n: x\r\n\r\n", 400),
		said("request/a header of 64 KiB", "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n", 431),
		said("request/10 000 headers", "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\n"+strings.Repeat("A: b\r\n", 10_000)+"\r\n", 431),
		said("request/a URL of 64 KiB", "GET /v1/hello?"+strings.Repeat("x", 64<<10)+" HTTP/1.1\r\nHost: nigh\r\n\r\n", 431, 414),
		said("length/negative", post("Content-Length: -1\r\n", ""), 400),
		said("length/2^63-1", post("Content-Length: 9223372036854775807\r\n", ""), 413, 429),
		said("length/2^64", post("Content-Length: 18446744073709551616\r\n", ""), 400),
		said("length/hexadecimal", post("Content-Length: 0x10\r\n", ""), 400),
		said("length/two that differ", post("Content-Length: 3\r\nContent-Length: 5\r\n", "abc"), 400),
		said("length/and chunks", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nabc"), 400, 429),
		said("length/a coding that is unknown", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, 400),
		said("length/a chunk of 2^64", post("Transfer-Encoding: chunked\r\n", "10000000000000000\r\nx"), 400, 0),
		said("length/a negative chunk", post("Transfer-Encoding: chunked\r\n", "-1\r\nx"), 400, 0),
		said("length/chunks past the bound", post("Transfer-Encoding: chunked\r\n", "20000\r\n"+strings.Repeat("x", 0x20000)+"\r\n0\r\n\r\n"), 413),
		said("length/a chunk extension of 1 MiB", post("Transfer-Encoding: chunked\r\n", "1;"+strings.Repeat("x", 1<<20)+"\r\nx\r\n0\r\n\r\n"), 400, 413, 0),
		said("length/trailers of 1 MiB", post("Transfer-Encoding: chunked\r\nTrailer: X\r\n", "1\r\nx\r\n0\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), 400, 413, 0),
		said("length/a body that is compressed", post("Content-Encoding: gzip\r\nContent-Length: 20\r\n", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 400),
		said("length/a small offer that promises more", post("Expect: 100-continue\r\nContent-Length: 1000000\r\n", ""), 413, 429),
	}
	for name, piece := range map[string]string{"one header": "x", "headers": "A: b\r\n"} {
		all = append(all, Attack{Name: "request/" + name + " without end", Run: func(ctx context.Context, p *Peer) (string, error) {
			conn, err := p.Secure(ctx, Asking, nil)
			if err != nil {
				return "", err
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "GET /v1/hello HTTP/1.1\r\nHost: nigh\r\nX: "); err != nil {
				return "", err
			}
			n := make(chan int, 1)
			go func() { n <- endless(conn, piece, 256<<20) }()
			b := make([]byte, 12)
			_, rerr := io.ReadFull(conn, b)
			took := <-n
			if took > 16<<20 || errors.Is(rerr, os.ErrDeadlineExceeded) {
				return "", fmt.Errorf("the target took %d bytes: %w", took, rerr)
			}
			return fmt.Sprintf("ended after %d bytes: %q", took, b), nil
		}})
	}
	return all
}

// strangersRequests are for endpoints that are not for strangers, or in a wrong order.
func strangersRequests() []Attack {
	x := fmt.Sprintf("%032x", rand.Uint64())
	refuses := func(name, method, path string, body any) Attack {
		return Attack{Name: name, Run: func(ctx context.Context, p *Peer) (string, error) {
			status, answer, err := p.Do(ctx, method, path, body)
			if err == nil {
				err = refused(status)
			}
			return fmt.Sprintf("status %d, %.80q", status, answer), err
		}}
	}
	word := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\xab", 32)))
	all := []Attack{
		refuses("order/dial back for a stranger", http.MethodPost, "/v1/dialback", nil),
		refuses("order/a message from a stranger", http.MethodPost, "/v1/msg", map[string]any{"v": 1, "id": x, "text": "let me in"}),
		refuses("order/shares for a stranger", http.MethodGet, "/v1/shares", nil),
		refuses("order/browsing for a stranger", http.MethodPost, "/v1/shares/browse", map[string]any{"share": "x", "path": "../.."}),
		refuses("order/searching for a stranger", http.MethodPost, "/v1/shares/search", map[string]any{"query": "secret"}),
		refuses("order/getting for a stranger", http.MethodPost, "/v1/shares/get", map[string]any{"x": x, "share": "x", "path": "y"}),
		refuses("order/the manifest of nothing", http.MethodGet, "/v1/x/"+x+"/manifest?from=0", nil),
		refuses("order/a file of nothing", http.MethodGet, "/v1/x/"+x+"/file/0", nil),
		refuses("order/the tree of nothing", http.MethodGet, "/v1/x/"+x+"/tree/0?from=0&to=1", nil),
		refuses("order/a batch of nothing", http.MethodPost, "/v1/x/"+x+"/batch", map[string]any{"entries": []int{0}}),
		refuses("order/the end of nothing", http.MethodPost, "/v1/x/"+x+"/state", map[string]any{"state": "done"}),
		refuses("order/the local API", http.MethodGet, "/v1/events", nil),
		refuses("order/trust by request", http.MethodPost, "/v1/trust", map[string]any{"action": "add", "device": "me"}),
		refuses("inbound/to a port of others", http.MethodPost, "/v1/inbound", map[string]any{"port": 22}),
		refuses("inbound/to no port", http.MethodPost, "/v1/inbound", map[string]any{"port": -1}),
		refuses("inbound/to a port past ports", http.MethodPost, "/v1/inbound", map[string]any{"port": 1 << 40}),
		refuses("pairing/a reveal without a commitment", http.MethodPost, "/v1/pair/reveal", map[string]any{"nonce": word}),
		refuses("pairing/a yes without a code", http.MethodPost, "/v1/pair/confirm", map[string]any{"mac": word}),
		refuses("pairing/no commitment", http.MethodPost, "/v1/pair/commit", map[string]any{"v": 1}),
		refuses("pairing/a commitment of another type", http.MethodPost, "/v1/pair/commit", `{"v":"1","commitment":[]}`),
		refuses("pairing/a negative version", http.MethodPost, "/v1/pair/commit", map[string]any{"v": -1, "commitment": word}),
		refuses("pairing/a message of 60 KB", http.MethodPost, "/v1/pair/commit", `{"v":1,"name":"`+strings.Repeat("x", 60_000)+`"}`),
		refuses("pairing/a guess at the setup code", http.MethodPost, "/v1/pair/code", map[string]any{"v": 1, "proof": word}),
		{Name: "pairing/two commitments", Run: func(ctx context.Context, p *Peer) (string, error) {
			c, err := p.Client(ctx)
			if err != nil {
				return "", err
			}
			defer c.Close()
			commit := map[string]any{"v": 1, "commitment": word}
			first, _, err := c.Do(http.MethodPost, "/v1/pair/commit", commit)
			if err != nil {
				return "", err
			}
			second, _, err := c.Do(http.MethodPost, "/v1/pair/commit", commit)
			if err == nil {
				err = refused(second)
			}
			if err == nil && first != http.StatusOK && first != http.StatusTooManyRequests {
				err = fmt.Errorf("the first commitment was answered with status %d", first)
			}
			return fmt.Sprintf("status %d, then %d", first, second), err
		}},
		{Name: "inbound/again and again", Run: func(ctx context.Context, p *Peer) (string, error) {
			c, err := p.Client(ctx)
			if err != nil {
				return "", err
			}
			defer c.Close()
			dialled, busy := 0, 0
			for range 12 {
				status, _, err := c.Do(http.MethodPost, "/v1/inbound", map[string]any{"port": 40_000})
				switch {
				case err != nil:
					return "", err
				case status == http.StatusOK:
					dialled++
				case status == http.StatusTooManyRequests:
					busy++
				default:
					return "", fmt.Errorf("status %d", status)
				}
			}
			if dialled > 6 || busy == 0 {
				return "", fmt.Errorf("the target dialled %d times for a stranger and refused to %d times", dialled, busy)
			}
			return fmt.Sprintf("dialled %d times, refused %d times", dialled, busy), nil
		}},
	}
	for _, path := range []string{"/v1/pair/commit", "/v1/pair/reveal", "/v1/pair/confirm", "/v1/pair/code", "/v1/inbound"} {
		all = append(all, wrongTypes(Stranger, path))
	}
	return all
}

// wrongTypes says what is no message where JSON is read.
func wrongTypes(as As, path string) Attack {
	return Attack{Name: "types" + path, As: as, Run: func(ctx context.Context, p *Peer) (string, error) {
		c, err := p.Client(ctx)
		if err != nil {
			return "", err
		}
		defer c.Close()
		for what, body := range Garbage() {
			status, _, err := c.Do(http.MethodPost, path, body)
			if err != nil {
				return "", fmt.Errorf("%s: %w", what, err)
			}
			if err := refused(status); err != nil {
				return "", fmt.Errorf("%s: %w", what, err)
			}
			if status == http.StatusTooManyRequests { // with the end of the connection
				c.Close()
				if c, err = p.Client(ctx); err != nil {
					return "", err
				}
			}
		}
		return "all refused", nil
	}}
}

// Garbage are bodies that are no message of the protocol.
func Garbage() map[string]string {
	deep := strings.Repeat("[", 9000)
	number, _ := json.Marshal(strings.Repeat("9", 4000))
	return map[string]string{
		"nothing": "{}", "null": "null", "an array": "[]", "a number": "1e999", "a string": string(number), "half": `{"v":1`, "two": "{}{}",
		"deep": deep, "deep and closed": deep + strings.Repeat("]", 9000), "deep objects": strings.Repeat(`{"a":`, 5000),
		"not UTF-8": "{\"v\":1,\"text\":\"\xff\xfe\"}", "NUL": "{\"v\":1}\x00", "a huge number": `{"v":` + strings.Repeat("9", 3000) + `}`,
		"wrong types": `{"v":true,"x":[],"state":{},"text":1,"id":{},"nonce":false,"mac":9,"port":"x","commitment":{},"proof":[1],"label":[],"files":"1"}`,
	}
}
