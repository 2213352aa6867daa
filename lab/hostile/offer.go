package hostile

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strings"

	"nigh/agent/content"
)

// Offer is the body of POST /v1/offer, with any value in any field.
type Offer map[string]any

// NewOffer is a good one: one file of five bytes.
func NewOffer() Offer {
	m := NewManifest(File{"present.txt", 5})
	return m.Offer()
}

// With returns o with other values.
func (o Offer) With(pairs ...any) Offer {
	o = maps.Clone(o)
	for i := 0; i < len(pairs); i += 2 {
		o[pairs[i].(string)] = pairs[i+1]
	}
	return o
}

func newX() string {
	var x [16]byte
	_, _ = rand.Read(x[:])
	return hex.EncodeToString(x[:])
}

// offers are offers that are none.
func offers() []Attack {
	names := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("n%04d", i)
		}
		return list
	}
	bad := map[string]Offer{}
	with := func(what string, pairs ...any) { bad[what] = NewOffer().With(pairs...) }
	with("another version", "v", 2)
	with("no version", "v", nil)
	with("a negative version", "v", -1)
	with("a name that leaves the folder", "names", []string{"../x"})
	with("an absolute name", "names", []string{"/etc/passwd"})
	with("a Windows name", "names", []string{`..\x`})
	with("an empty name", "names", []string{""})
	with("a name of NUL", "names", []string{"a\x00b"})
	with("a name of control characters", "names", []string{"a\x1b[2J"})
	with("a name that is turned around", "names", []string{"a\u202etxt.exe"})
	with("a name of 256 bytes", "names", []string{strings.Repeat("n", 256)})
	with("no names", "names", nil)
	with("names of another type", "names", map[string]any{"a": 1})
	with("2 000 names", "names", names(2000), "tops", 2000, "files", 2000)
	with("an identifier with a path", "x", "../../../../etc/cron.d")
	with("an identifier of 1 KB", "x", strings.Repeat("ab", 500))
	with("a label of 60 KB", "label", strings.Repeat("x", 60_000))
	for _, field := range []string{"files", "dirs", "bytes", "tops", "manifest_bytes"} {
		with("negative "+field, field, -1)
		with("2^63-1 "+field, field, int64(math.MaxInt64))
		with("2^63 "+field, field, uint64(1)<<63)
		with("1e300 "+field, field, 1e300)
		with(field+" as text", field, "5")
	}
	with("a million and one files", "files", 1_000_001, "tops", 1)
	with("a manifest of 100 MB", "manifest_bytes", 100<<20)
	with("a hash of another length", "manifest_root", "00ff")
	with("a hash of zeros", "manifest_root", strings.Repeat("0", 64))
	with("negative skipped", "skipped", map[string]any{"links": -1})
	with("10 000 examples", "skipped", map[string]any{"links": 1, "examples": names(10_000)})
	return []Attack{
		{Name: "offer/none of them is one", As: Traitor, Run: func(ctx context.Context, p *Peer) (string, error) {
			c, err := p.Client(ctx)
			if err != nil {
				return "", err
			}
			defer c.Close()
			for what, o := range bad {
				status, _, err := c.Do(http.MethodPost, "/v1/offer", o)
				if err != nil {
					return "", fmt.Errorf("%s: %w", what, err)
				}
				if status/100 != 4 || status == http.StatusTooManyRequests {
					return "", fmt.Errorf("%s: status %d", what, status)
				}
			}
			return fmt.Sprintf("%d offers refused", len(bad)), nil
		}},
		{Name: "offer/again and again", Run: func(ctx context.Context, p *Peer) (string, error) {
			taken, busy := 0, 0
			for range 40 {
				status, _, err := p.Do(ctx, http.MethodPost, "/v1/offer", NewOffer())
				switch {
				case err != nil:
					return "", err
				case status == http.StatusAccepted:
					taken++
				case status == http.StatusTooManyRequests:
					busy++
				default:
					return "", fmt.Errorf("status %d", status)
				}
			}
			if taken > 4 || busy == 0 {
				return "", fmt.Errorf("%d offers of one stranger wait, %d were refused", taken, busy)
			}
			return fmt.Sprintf("%d wait, %d refused", taken, busy), nil
		}},
		{Name: "offer/another device's transfer", Run: func(ctx context.Context, p *Peer) (string, error) {
			other, err := New(p.Target)
			if err != nil {
				return "", err
			}
			o := NewOffer()
			status, _, err := p.Do(ctx, http.MethodPost, "/v1/offer", o)
			if err != nil {
				return "", err
			}
			if status != http.StatusAccepted && status != http.StatusTooManyRequests {
				return "", fmt.Errorf("a good offer was answered with status %d", status)
			}
			end, _, err := other.Do(ctx, http.MethodPost, fmt.Sprintf("/v1/x/%s/state", o["x"]), map[string]any{"state": "failed", "code": "cancelled"})
			if err == nil && end != http.StatusNotFound && end != http.StatusTooManyRequests {
				err = fmt.Errorf("ending another device's transfer was answered with status %d", end)
			}
			return fmt.Sprintf("status %d, then %d", status, end), err
		}},
	}
}

// rootOf is the name of a manifest.
func rootOf(blob []byte) string {
	h := content.Sum(blob)
	return hex.EncodeToString(h[:])
}
