package hostile

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nigh/agent/content"
)

// Name is the prefix of the name of every file that a hostile sender offers: none may be in an inbox under it.
const Name = "present"

// senders offer what is accepted, and then serve something else.
func senders() []Attack {
	const size = 5
	one := NewManifest(File{Name + ".txt", size})
	const large = 3 << 20
	film := NewManifest(File{Name + ".film", large})
	lines := strings.Repeat("x", size)
	raw := func(text string) Answers {
		return func(w io.Writer, q Question) bool { _, err := io.WriteString(w, text); return err == nil }
	}
	frame := func(index uint32, status byte, length uint32, body string, hash content.Hash) Answers {
		var b []byte
		b = binary.BigEndian.AppendUint32(b, index)
		b = append(b, status)
		b = binary.BigEndian.AppendUint32(b, length)
		b = append(b, body...)
		b = append(b, hash[:]...)
		return func(w io.Writer, q Question) bool { return Reply(w, http.StatusOK, b) == nil }
	}
	sum := content.Sum([]byte(lines))
	manifest := func(name string, offered Manifest, served Answers, change ...any) Attack {
		return sending("manifest/"+name, offered.Offer().With(change...), served, nil)
	}
	bad := func(name string, files ...File) Attack {
		served := NewManifest(files...)
		offer := served.Offer()
		names := make([]string, min(len(files), 64)) // the names shown are good ones
		var bytes uint64
		for i, f := range files {
			bytes += f.Size
			if i < len(names) {
				names[i] = fmt.Sprintf("%s%d", Name, i)
			}
		}
		if bytes > 1<<40 { // the offer is a good one
			bytes = size
		}
		return sending("manifest/"+name, offer.With("names", names, "bytes", bytes), whole(served), nil)
	}
	other := NewManifest(File{Name + ".exe", size})
	return []Attack{
		bad("a path out of the folder", File{"../" + Name, size}),
		bad("a path through a parent", File{Name + "/../../" + Name, size}),
		bad("an absolute path", File{"/tmp/" + Name, size}),
		bad("a Windows path", File{`..\` + Name, size}),
		bad("an empty path", File{"", size}),
		bad("a path of NUL", File{Name + "\x00", size}),
		bad("a path of dots", File{".", size}),
		bad("below a file", File{Name, size}, File{Name + "/x", size}),
		bad("twice the same", File{Name, size}, File{Name, size}),
		bad("out of order", File{Name + "b", size}, File{Name + "a", size}),
		bad("a size of 2^63", File{Name, 1 << 63}),
		bad("a negative size", File{Name, ^uint64(0)}),
		bad("sizes that overflow", File{Name + "a", 1<<63 - 1}, File{Name + "b", 1<<63 - 1}, File{Name + "c", 7}),
		manifest("another than was offered", one, whole(other), "manifest_bytes", len(other.Blob)),
		manifest("files that were not shown", NewManifest(File{Name + "a", size}, File{Name + "b", size}), whole(NewManifest(File{Name + "a", size}, File{Name + "c", size}))),
		manifest("without end", one, func(w io.Writer, q Question) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			endless(w, "4000\r\n"+strings.Repeat("\xff", 0x4000)+"\r\n", 64<<20)
			return false
		}),
		manifest("of noise", one, func(w io.Writer, q Question) bool {
			return Reply(w, http.StatusOK, []byte(strings.Repeat("\xff", len(one.Blob)))) == nil
		}),
		manifest("by redirect", one, raw("HTTP/1.1 302 Found\r\nLocation: http://nigh/v1/elsewhere\r\nContent-Length: 0\r\n\r\n")),
		manifest("of a negative length", one, raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")),
		manifest("compressed", one, func(w io.Writer, q Question) bool {
			return Reply(w, http.StatusOK, []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"+strings.Repeat("\x00", 64)), "Content-Encoding: gzip") == nil
		}),

		sending("file/a frame of 4 GiB", one.Offer(), whole(one), frame(0, 0, 1<<32-1, lines, sum)),
		sending("file/a frame that is longer than the file", one.Offer(), whole(one), frame(0, 0, size+1, lines+"y", sum)),
		sending("file/a frame that is shorter than the file", one.Offer(), whole(one), frame(0, 0, size-1, lines[1:], sum)),
		sending("file/a frame of another file", one.Offer(), whole(one), frame(7, 0, size, lines, sum)),
		sending("file/a frame of an unknown status", one.Offer(), whole(one), frame(0, 99, size, lines, sum)),
		sending("file/the wrong bytes", one.Offer(), whole(one), frame(0, 0, size, "yyyyy", sum)),
		sending("file/frames without end", one.Offer(), whole(one), func(w io.Writer, q Question) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			endless(w, "4000\r\n"+strings.Repeat("\xee", 0x4000)+"\r\n", 64<<20)
			return false
		}),
		sending("file/groups of wrong bytes", film.Offer(), whole(film), func(w io.Writer, q Question) bool {
			from, to, ok := strings.Cut(strings.TrimPrefix(q.Header.Get("Range"), "bytes="), "-")
			a, err1 := strconv.Atoi(from)
			b, err2 := strconv.Atoi(to)
			if !ok || err1 != nil || err2 != nil {
				return false
			}
			const group = 256 << 10
			groups := (b - a + group) / group
			return Reply(w, http.StatusPartialContent, make([]byte, b-a+1+groups*32)) == nil
		}),
		sending("file/a range by redirect", film.Offer(), whole(film), raw("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:22/\r\nContent-Length: 0\r\n\r\n")),
	}
}

// whole serves a manifest as it is.
func whole(m Manifest) Answers {
	return func(w io.Writer, q Question) bool {
		from, err := strconv.Atoi(q.FormValue("from"))
		if err != nil || from >= len(m.Blob) {
			return false
		}
		return Reply(w, http.StatusOK, m.Blob[from:min(len(m.Blob), from+4<<20)]) == nil
	}
}

// Million is the attack that makes the target take most memory: it is for the last.
const Million = "manifest/a million and one entries"

func million() []Attack {
	return []Attack{{Name: Million, As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
		const n = 1_000_001
		var shown []File // in the offer
		for i := range 64 {
			shown = append(shown, File{Path: Name + strconv.Itoa(n+i)})
		}
		m := Manifest{Files: shown, Blob: make([]byte, 0, 24*n)}
		for i := range n {
			m.Blob = appendEntry(m.Blob, File{Path: Name + strconv.Itoa(n+i)}) // of one length, so in order
		}
		return sending(Million, m.Offer().With("files", n-1, "tops", n-1), whole(m), nil).Run(ctx, p)
	}}}
}

// sending offers, serves the manifest and the content by answers, and waits until the target says that the transfer failed, or
// has asked for the bad part twice because it takes it for a lost connection.
func sending(name string, offer Offer, manifest, file Answers) Attack {
	return Attack{Name: name, As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
		offer := offer.With("x", newX())
		ended := make(chan string, 16)
		again := make(chan string, 64)
		prefix := fmt.Sprintf("/v1/x/%s/", offer["x"])
		s, err := p.Stay(ctx, func(w io.Writer, q Question) bool {
			what, mine := strings.CutPrefix(q.URL.Path, prefix)
			kind, _, _ := strings.Cut(what, "/")
			switch {
			case q.URL.Path == "/v1/hello":
				return p.hello(w)
			case !mine:
				return Reply(w, http.StatusNotFound, []byte(`{"code":"not_found"}`)) == nil
			case kind == "state":
				var m struct{ State, Code string }
				if json.Unmarshal(q.Body, &m) == nil && m.State != "running" {
					ended <- m.State + " " + m.Code
				}
				return Reply(w, http.StatusNoContent, nil) == nil
			case kind == "manifest":
				if file == nil && q.FormValue("from") == "0" {
					again <- kind
				}
				return manifest(w, q)
			case file != nil:
				again <- kind
				return file(w, q)
			}
			return false
		})
		if err != nil {
			return "", err
		}
		defer s.Close()
		status, answer, err := p.Do(ctx, http.MethodPost, "/v1/offer", offer)
		if err != nil {
			return "", err
		}
		if status != http.StatusAccepted {
			return "", fmt.Errorf("the offer was answered with status %d: %s", status, answer)
		}
		asked := 0
		for {
			select {
			case <-again:
				if asked++; asked < 3 {
					continue
				}
				// It takes it for a lost connection, and would try for minutes.
				if status, _, err := p.Do(ctx, http.MethodPost, prefix+"state", map[string]any{"state": "failed", "code": "cancelled"}); err != nil || status != http.StatusNoContent {
					return "", fmt.Errorf("taking the offer back: status %d: %w", status, err)
				}
				return "asked again and again, until the offer was taken back", nil
			case state := <-ended:
				if !slices.Contains([]string{"failed protocol", "failed too_large", "failed verify", "failed some_failed", "failed no_space"}, state) {
					return "", fmt.Errorf("the target says %q", state)
				}
				if asked == 0 && file != nil {
					return "", errors.New("the target never asked for the bad part: " + state)
				}
				return state, nil
			case <-ctx.Done():
				return "", fmt.Errorf("asked %d times, and then nothing: %w", asked, ctx.Err())
			}
		}
	}}
}
